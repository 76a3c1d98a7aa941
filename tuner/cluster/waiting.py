"""Reports that trials wait because the cluster has no room."""

import time
from collections.abc import Callable, Mapping

from tuner.cluster.nodes import what_is_taken

PATIENCE_S = 10.0
"""How long a trial may wait before that is reported."""
REPEAT_S = 300.0


class Waiting:
    """Says what trials wait for, once none has run for a while, and again every few minutes."""

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        taken: Callable[[float, float], str | None] = what_is_taken,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`taken`: returns why a trial with these CPUs and GPUs cannot start, or None."""
        self._tell = tell
        self._taken = taken
        self._clock = clock
        self._tell_at_s: float | None = None

    def look(self, needs: Mapping[str, float] | None) -> None:
        """Notes what a trial waits for while none runs, by Ray's names; None if no trial waits like that."""
        if needs is None:
            self._tell_at_s = None
            return
        now_s = self._clock()
        if self._tell_at_s is None:
            self._tell_at_s = now_s + PATIENCE_S
        if now_s < self._tell_at_s:
            return
        taken = self._taken(needs.get("CPU", 0.0), needs.get("GPU", 0.0))
        self._tell_at_s = now_s + (PATIENCE_S if taken is None else REPEAT_S)
        if taken is not None:
            self._tell(f"Waiting for the cluster: {taken}")
