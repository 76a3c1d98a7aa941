"""Studies on a Ray cluster as jobs: sent, listed, followed, stopped.

Nothing here trains or reads a study's trials; the job that is sent runs `launch.py` itself.
"""
