"""A trial keeps to its share of a GPU, so that a neighbour's out-of-memory can be told from its own.

Ray counts shares and enforces none. torch's allocator does: what it reserves stays below a fraction of the
GPU. CUDA's context lies beside that, so it is taken off the share.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the driver reads the constant before it needs torch
    import torch

CUDA_CONTEXT_MIB = 750.0
"""What a process needs on a GPU beside its tensors: CUDA's context, kernels, cuBLAS and cuDNN.

Source: the user's report, in which a step of MobileNetV2 at batch 1 needs 821 MB on a GPU, of which
its tensors are 103 MiB (docs/memory.md, "Gradient checkpoints"). The context alone: about 300 MiB (pytorch
issue 107667).
"""


@dataclass(frozen=True)
class GpuShare:
    """What a trial's process may hold on its GPU."""

    allowed_mib: float
    """Tensors, and what torch's allocator keeps for the next ones."""

    def neighbours_fault(self, error: BaseException, need_mib: float) -> str | None:
        """Returns why an allocation failed that this share had room for; None if it had none.

        What torch's allocator had reserved and could not use is a part of the need: the share bounds it, too.
        """
        from tinytl.memory.out_of_memory import is_out_of_gpu_memory, unused_mib

        if not is_out_of_gpu_memory(error) or need_mib + unused_mib(error) > self.allowed_mib:
            return None
        return (
            f"this trial needed {need_mib:,.0f} MiB and its share of the GPU gives it {self.allowed_mib:,.0f}"
            ": other processes hold memory of that GPU (nvidia-smi lists them)"
        )


def keep_to_share(device: "torch.device") -> GpuShare | None:
    """Bounds this process's memory on the current GPU by the part of it that Ray gave this trial.

    Returns None, and bounds nothing, on a CPU and for a whole GPU or several.
    """
    share = assigned_gpus()
    if device.type != "cuda" or not 0 < share < 1:
        return None
    import torch

    from tinytl.memory.measure import MIB

    total_mib = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / MIB
    allowed_mib = max(0.0, share * total_mib - CUDA_CONTEXT_MIB)
    torch.cuda.set_per_process_memory_fraction(allowed_mib / total_mib)
    return GpuShare(allowed_mib)


def assigned_gpus() -> float:
    """Returns the GPUs that Ray gave this trial's process; 0 outside of one."""
    import ray

    if not ray.is_initialized():
        return 0.0
    return float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))
