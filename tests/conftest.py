"""Tests have no GPU, and a core each: with more threads than cores, those that wait for one spin.

Programs that tests start inherit both. Without this, `make test` needs half as much CPU time again. Times of
steps come from a file, so that plans are the same on every machine. Features are not kept, so that no test
reads what another computed.
"""

import os
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TINYTL_STEP_TIMES", str(Path(__file__).parent / "support" / "step_times.json"))
os.environ.setdefault("TINYTL_FEATURES_MIB", "0")
