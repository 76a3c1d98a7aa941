"""Memory-efficient transfer learning: TinyTL and its peers, with the memory that training really takes.

Importing this package imports nothing heavy; ``tinytl.config`` and ``tinytl.data`` work without torch.
"""

import os

# Torch's profiler, which measures memory, tells of its start and of devices that are not there. Read at
# torch's import, hence here.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
