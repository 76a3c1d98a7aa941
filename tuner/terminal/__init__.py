"""What a terminal shows of a study: plain lines, or a live view.

Observers of a study: they receive what happens, return at once, and decide nothing.
"""
