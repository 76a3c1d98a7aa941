"""The Ray cluster: started or joined, its nodes checked, each trial's share of it.

Everything that reaches into Ray's own modules to start or join a cluster stands here.
"""
