"""What runs next, and which trials stop early: sampler, memory budget, rungs.

Ray Tune asks `searcher.py` and `scheduler.py`; `tuner.record` writes what they decide.
"""
