"""Code that several tests share: cases, servers, studies and folders made by hand.

Benchmarks may import it; nothing here is a test.
"""
