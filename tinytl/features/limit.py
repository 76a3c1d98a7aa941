"""How much of a disk stored features may fill. Imports nothing heavy."""

import os

from tinytl.errors import ConfigError

MOST_VARIABLE = "TINYTL_FEATURES_MIB"
"""Environment variable: the most that the store may hold, in MiB. 0: nothing is read or written."""
MOST_MIB = 4096
"""If the variable is not set: 838,860 rows of 1,280 floats, which is 777 epochs of the bundled digits."""
FREE_BYTES = 1 << 30
"""What the store leaves of the disk for files that nobody can compute again, such as checkpoints."""


def most_stored_bytes() -> int:
    """Returns the most bytes that the store may hold; 0: it is switched off.

    Raises:
        ConfigError: for a bad value of TINYTL_FEATURES_MIB.
    """
    text = os.environ.get(MOST_VARIABLE) or str(MOST_MIB)
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(
            f"TINYTL_FEATURES_MIB={text} is no whole number of MiB: give one, or 0 to store nothing"
        )
    return int(text) << 20
