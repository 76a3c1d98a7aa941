"""One step of training and what it needs: groups of parameters, schedule, precision, processes.

Pure training: no folders, no data sets, no terminal.
"""
