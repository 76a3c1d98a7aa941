"""Operations that may give other last bits in an equal run on a GPU, found on fake tensors of one."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

NOT_REPEATABLE = frozenset(
    """
    upsample_linear1d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward
    upsample_trilinear3d_backward _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward
    _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward adaptive_max_pool2d_backward
    adaptive_max_pool3d_backward avg_pool3d_backward max_pool2d_with_indices_backward
    max_pool3d_with_indices_backward fractional_max_pool2d_backward fractional_max_pool3d_backward
    max_unpool2d max_unpool3d reflection_pad1d_backward reflection_pad2d_backward reflection_pad3d_backward
    replication_pad1d_backward replication_pad2d_backward replication_pad3d_backward
    nll_loss2d_forward _ctc_loss_backward _embedding_bag_backward _embedding_bag_dense_backward
    embedding_dense_backward grid_sampler_2d_backward grid_sampler_3d_backward cumsum put put_ histc bincount
    median kthvalue mode index_add index_add_ index_copy index_copy_ index_put index_put_ _index_put_impl_
    index_reduce index_reduce_ scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_
    """.split()
)
"""What `torch.use_deterministic_algorithms` names for a GPU, as ATen calls it, and their relatives; some of
them only for some arguments. Max pooling in two dimensions is not named there, but adds atomically."""
LEFT_TO_CUDNN = frozenset({"convolution_backward"})
"""Repeatable if cuDNN is told to choose among such algorithms: `torch.backends.cudnn.deterministic`."""


class UnrepeatableOperations(TorchDispatchMode):
    """Collects the names of the operations in `NOT_REPEATABLE` and `LEFT_TO_CUDNN` that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        if name in NOT_REPEATABLE | LEFT_TO_CUDNN:
            self.found.add(name)
        return func(*args, **(kwargs or {}))
