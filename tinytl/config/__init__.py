"""What a run is: `TrainConfig`, its flags and names, and the execution plan.

Imports neither torch nor numpy: a mistake is found before anything heavy is loaded.
"""

from tinytl.moved import names_moved_from

__getattr__ = names_moved_from(__name__)
