"""A run and its folder: trained, saved, resumed, and read again.

Whatever reads or writes a run's folder stands here, so that all readers see the same run.
"""
