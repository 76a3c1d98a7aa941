"""Images and labels: found, split, decoded, cropped, batched.

Works without torch until a batch is made on a device.
"""

from tinytl.moved import names_moved_from

__getattr__ = names_moved_from(__name__)
