"""What a run is: `TrainConfig`, its flags and names, and the execution plan.

Imports neither torch nor numpy: a mistake is found before anything heavy is loaded.
"""
