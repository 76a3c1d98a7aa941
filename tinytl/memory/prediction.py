"""The predicted peak of a training step, and its parts."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinytl.step_time.operations import Work

PARTS = ("parameters", "gradients", "optimizer", "batch_and_buffers", "saved_for_backward", "temporary")
WORKSPACES = "workspaces"
"""On a GPU one more part: what cuBLAS and cuDNN hold."""
OF_GRAPHS = "graph_buffers"
"""The part of a step that runs as CUDA graphs: what these read and write, always at one place."""
OF_AVERAGE = "weight_average"
"""The part of a step with an average of its weights: the averages."""


@dataclass(frozen=True, kw_only=True)
class MemoryPrediction:
    """Peak of one training step in MiB (2**20 bytes), its parts, and where it occurs."""

    peak_mib: float
    parts_mib: Mapping[str, float]
    """By `PARTS`, `OF_GRAPHS` if there are graphs, `OF_AVERAGE` if weights are averaged, `WORKSPACES` if a
    GPU said what they are: their sum is the peak."""
    peak_at: str
    """Module and pass of the peak, such as `features.2.conv.0 backward`."""
    work: Work = field(default_factory=Work, repr=False, compare=False)
    """What the step computes, for an estimate of its time."""
    calls_not_known: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    """Operations of a GPU whose scratch memory is left out, because no GPU has said it (`gpu_scratch`)."""

    def with_workspaces(self, mib: float) -> "MemoryPrediction":
        """Returns the prediction with so much more for a GPU's libraries."""
        parts_mib = dict(self.parts_mib) | {WORKSPACES: mib}
        return dataclasses.replace(self, peak_mib=self.peak_mib + mib, parts_mib=parts_mib)

    def what_sets_it(self) -> str:
        """Returns the place and the largest part of the peak, in words."""
        part, mib = max(self.parts_mib.items(), key=lambda item: item[1])
        return f"at {self.peak_at}, most of it {part} ({mib:.1f} MiB)"
