"""The names that fields of a TrainConfig may hold, which fields belong together, and some of their limits."""

from collections.abc import Mapping

BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "proxylessnas_mobile")
BACKBONE_FAMILIES = ("torchvision", "timm")
"""Packages whose networks are backbones, too: `timm/mobilenetv3_small_100`."""
LOADINGS = ("auto", "memory", "stream")
NORMS = ("batch_norm", "frozen_bn", "group_norm")
ENGINES = ("lean", "stock")
PLANS = ("fast", "smallest", "budget")
CHECKPOINTS = ("auto", "none", "depthwise", "all")
OPTIMIZERS = ("adam", "adamw", "sgd")
MOMENTS = ("float32", "int8")
METRICS: Mapping[str, str] = {
    "accuracy_top1": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}
"""Figures of the validation images by which epochs and trials are compared, with their names in text."""
CLASS_WEIGHTINGS = ("none", "inverse", "effective")
SAMPLINGS = ("shuffled", "balanced")
LR_SCHEDULES = ("cosine", "exponential", "constant")
MEMORY_FORMATS = ("channels_last", "contiguous")
ALL_STOCK_KIB = float(1 << 20)
"""From this `stock_below_kib` on, one GiB, nothing is made lean."""
FROZEN_WEIGHTS = ("float32", "bfloat16", "int8")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
UPSAMPLE_TYPES = ("bilinear", "nearest", "bicubic")
ACT_FUNCS = ("relu", "relu6", "h_swish", "h_sigmoid", "tanh", "sigmoid", "none")
KERNEL_CLIPPINGS = ("map", "reference")

FT_GROUPS = ("classifier", "late", "early")
"""Parameter groups of full and norm fine-tuning; `late` is the last five feature blocks."""
METHOD_GROUPS: Mapping[str, tuple[str, ...]] = {
    "FT-Last": ("classifier",),
    "FT-Norm+Last": FT_GROUPS,
    "FT-Full": FT_GROUPS,
    "TinyTL-B": ("classifier", "bias"),
    "TinyTL-L": ("classifier", "lite_residual"),
    "TinyTL-L+B": ("classifier", "lite_residual", "bias"),
    "Last-3": ("classifier", "late"),
    "Last-5": ("classifier", "late"),
    "Sparse": ("classifier", "weight", "bias"),
    "Scratch": FT_GROUPS,
}
"""Each update method, with its parameter groups; the paper's methods have the paper's names."""
METHODS = tuple(METHOD_GROUPS)
ALL_TRAINING_METHODS = ("FT-Full", "Scratch")
"""Methods that train every weight."""
LAST_BLOCKS = {"Last-3": 3, "Last-5": 5}
"""The number of last feature blocks that a method trains beside the head."""
MOST_SEED = 2**31 - 1
MOST_MAGNITUDE = 30
"""The strongest RandAugment that torchvision has by default."""
NETWORK_STRIDE = 32
"""Input pixels per pixel of the last map, in height and in width, in every backbone here."""
REFERENCE_RESOLUTION = 128
"""The map size from which the reference code counts down when it shrinks lite kernels, for any image."""
REFERENCE_LAST_MAP = 8
"""The last map's size by that count: four blocks halve it, in every backbone here."""
LITE_METHODS = ("TinyTL-L", "TinyTL-L+B")
"""Methods that insert lite residual modules."""
BLOCKS: Mapping[str, int] = {"efficientnet_lite0": 16, "mobilenet_v2": 17, "proxylessnas_mobile": 20}
"""The number of inverted residuals of each backbone."""
LAYER_KINDS = ("pw1", "dw", "pw2")
"""Convolutions of an inverted residual, in order: the one that widens, the depthwise one, the one that
narrows. A block that does not widen has no `pw1`."""
SELECTIONS = ("last", "fisher", "contribution")
SPARSE_BLOCKS = 6
"""Last blocks of which method Sparse trains convolutions, if nothing else says how many."""
SPARSE_FIELDS = ("update_blocks", "update_layers", "channel_ratio", "bias_blocks", "select", "update_scheme")
"""Fields of method Sparse alone."""
LITE_RATIO = "lr_ratio.lite_residual"
"""Flat name of the lite residuals' ratio: what it means if unset follows from other fields."""
RANDOM_BRANCHES_LR_RATIO = 16.0
"""Learning rate of lite residuals that start at random, as a multiple of the head's. Source: docs/results.md,
"Lite residuals that start at random"."""
FIELDS_WITHOUT_MEMORY = (
    "dataset data_dir loading loader_workers skip_broken exclude min_per_class weights lite_weights "
    "input_mean input_std base_lr lr_ratio lr_schedule gamma warmup_epochs weight_decay label_smoothing "
    "sampling epochs crop_scale_min flip rand_augment metric seed data_seed"
).split()
"""Fields that leave the peak memory of a training step as it is."""
