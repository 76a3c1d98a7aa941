"""Features of frozen networks, kept so that runs that train other classifiers need not compute them.

Nothing here trains: rows of features in files, and the name that says which runs may share a file.
"""
