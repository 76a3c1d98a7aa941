"""What serves several tests: cases, servers, studies and folders made by hand.

Benchmarks may import it; nothing here is a test.
"""
