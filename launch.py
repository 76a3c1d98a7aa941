"""Search how to fine-tune a mobile network: accuracy against the memory of training.

python launch.py --space separate_lr
"""

import sys

from tuner.commands.launch import main

if __name__ == "__main__":
    sys.exit(main())
