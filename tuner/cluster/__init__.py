"""The Ray cluster: started or joined, its nodes checked, each trial's share of it, its metrics page.

All code that uses Ray's private modules to start or join a cluster is here.
"""
