"""Tests have no GPU, and a core each: with more threads than cores, those that wait for one spin.

Programs that tests start inherit both. Without this, `make test` needs half as much CPU time again.
"""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")
