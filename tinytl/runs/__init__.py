"""A run and its folder: trained, saved, resumed, and read back.

All code that reads or writes a run's folder is here, so that all readers see the same run.
"""
