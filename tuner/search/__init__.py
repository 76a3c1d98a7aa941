"""What runs next, and which trials stop early: sampler, memory budget, rungs.

Ray Tune asks `searcher.py` and `scheduler.py`; whatever they decide is written by `tuner.record`.
"""
