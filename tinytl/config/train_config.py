"""What one training run is: every choice that makes it, checked before torch is imported."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinytl.config.checks import require_int, require_number
from tinytl.config.dataset_names import dataset_name
from tinytl.errors import ConfigError, choose
from tinytl.passwords import set_apart

BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "proxylessnas_mobile")
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


@dataclass(frozen=True, kw_only=True)
class LrRatio:
    """Learning rate of each parameter group as a multiple of `base_lr`."""

    classifier: float = 1.0
    """The new head. Every method trains it."""
    late: float = 1.0
    """The last five feature blocks (FT-*, Last-* and Scratch). The user's report: 0.6."""
    early: float = 1.0
    """All feature blocks before those (FT-* and Scratch). The user's report: 0.4."""
    lite_residual: float | None = None
    """The lite residual branches (TinyTL-L, TinyTL-L+B). Default: 16 if they start at random under `adam`
    or `adamw`, as at the head's rate they learn little in few epochs; otherwise 1."""
    weight: float = 1.0
    """The convolutions' weights that method Sparse trains."""
    bias: float = 1.0
    """The backbone's biases, those of its norms included (TinyTL-B, TinyTL-L+B, Sparse)."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None or name != "lite_residual":
                require_number(f"lr_ratio.{name}", value, above=0.0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Immutable; `dataclasses.replace` makes variants.

    Raises:
        ConfigError: for a value outside its range, an unknown name, or fields that exclude each other.
    """

    dataset: str = "digits"
    """Data set: `digits` (bundled, 1,797 scans of 8x8 pixels), `imagefolder` (yours, see `data_dir`), or
    `cifar10`, `cifar100`, `cub200`, `cars`, `food101`, `imagenet` (published ones, see `data_dir`)."""
    data_dir: str | None = None
    """Folder of the data set. `imagefolder`: `train/CLASS/*`, and `val/`, `test/` if there are any; or
    `CLASS/*`. A published set: its archives as downloaded, or their contents."""
    loading: str = "auto"
    """Where images are during training: `memory` (decoded once), `stream` (files, decoded by worker processes
    for each batch), or `auto` (memory up to 2 GiB). No effect on the images or on training memory."""
    loader_workers: int | None = None
    """Processes that decode streamed images; 0: the training process decodes. Default: one per core,
    8 at most. No effect on results."""
    skip_broken: bool = False
    """Leave out images that do not decode, and count them; streamed images are all decoded once for this.
    Default: such an image is a mistake, and all are named."""
    exclude: str | None = None
    """File with the pictures to leave out: a path per line, relative to the data folder, or a table with a
    column `file`, such as `tinytl check --csv` writes. Splits stay as they are without it. Default: none."""
    num_classes: int | None = None
    """Number of classes. Default: the data set's (10 for the command `memory`, which reads no data set)."""
    backbone: str = "efficientnet_lite0"
    """Network: `efficientnet_lite0`, `mobilenet_v2` or `proxylessnas_mobile`."""
    weights: str = "imagenet"
    """Initial weights of the backbone: `imagenet` (its newest; `imagenet_v1`, `imagenet_v2`: torchvision's
    two for mobilenet_v2), `none` (random; use `batch_norm` or `group_norm` then, as frozen statistics of a
    random network are useless), or a file or URL of tensors (a URL is downloaded once). Method Scratch:
    always `none`."""
    lite_weights: str | None = None
    """File or URL of pretrained lite residuals of this geometry, for TinyTL-L and TinyTL-L+B: they learn
    faster than random ones and need the same memory. Default: they start at random."""
    input_mean: tuple[float, float, float] | None = None
    """Mean of each input channel in [0, 1], as the weights expect it. Default: the weights' own (the file's
    if it names one, else that of the backbone's ImageNet weights)."""
    input_std: tuple[float, float, float] | None = None
    """Standard deviation of each input channel, as the weights expect it. Default: that of the weights."""

    method: str = "TinyTL-L+B"
    """Which parameters are updated: FT-Last (the head), FT-Norm+Last, FT-Full, TinyTL-B, TinyTL-L,
    TinyTL-L+B, Last-3 or Last-5 (the last feature blocks and the head), Sparse (the head, biases, and the
    weights of some convolutions, see `select`), or Scratch (all, from random weights; not with
    `frozen_bn`). Also feature-extractor (FT-Last), finetune (FT-Full), norm+last
    (FT-Norm+Last), bias (TinyTL-B), low (Last-5), deep (FT-Full, `lr_ratio` late 0.6 and early 0.4). Training
    more of the network learns more and needs more memory."""
    norm: str = "frozen_bn"
    """The backbone's normalisation: `batch_norm` (batch statistics in every layer, frozen layers too, so that
    running statistics follow your images; no micro-batches), `frozen_bn` (ImageNet's statistics, least
    memory) or `group_norm` (statistics of each sample)."""
    weight_standardization: bool = False
    """Give each filter of a convolution mean 0 and deviation 1 before it is used, frozen filters too. Meant
    for `group_norm`, and for weights that were trained with it or for Scratch; other weights lose accuracy,
    as their filters change. Trained weights need up to one more copy of themselves in memory. Not with
    `frozen_bn`."""
    update_blocks: int | None = None
    """Method Sparse: how much trains, as the number of last blocks whose convolutions would. More learns
    more and needs more memory. Default: 6; under plan `budget`, as much as fits it."""
    update_layers: str = "pw1"
    """Method Sparse: the convolutions of a block that may train: `pw1` (1x1, widens), `dw` (depthwise), `pw2`
    (1x1, narrows), or several: `pw1+pw2`."""
    channel_ratio: float | None = None
    """Method Sparse: how much trains, as the share of those convolutions' input channels, in (0, 1]. Only
    their input is kept for backward, only their gradients and moments exist. Default: 1."""
    bias_blocks: int | str = "same"
    """Method Sparse: the last blocks whose biases train: a number, `all` (the stem's too), `none`, or `same`
    (from the first block on whose weights train)."""
    select: str = "last"
    """Method Sparse: which convolutions and channels train, for the memory that `update_blocks`,
    `update_layers` and `channel_ratio` give: `last` (those of the last blocks, each by its first channels),
    `fisher` (in any block, those with the most Fisher information per byte on 64 of your training images:
    some seconds), or `contribution` (those that alone gain the most validation accuracy per byte in a short
    training: minutes, once per data set and backbone)."""
    update_scheme: str | None = None
    """Method Sparse: what trains, in detail, such as `12.pw1 13.pw1:3fc0 bias:12` (block 13: the channels
    of this mask, in hexadecimal, the first channel its highest bit). Default: what `select` chooses."""
    n_groups: int = 2
    """Groups of the lite residual's convolution; more groups, fewer parameters, less memory. Must divide
    the widths of every block."""
    downsample_ratio: int | None = 2
    """Pooling before the lite residual's convolution; larger needs less memory. `none`: global pooling."""
    expand: float = 1.0
    """Width of the lite residual relative to its input; wider learns more and needs more memory."""
    kernel_size: int = 3
    """Kernel of the lite residual's convolution, odd; shrinks if the map is smaller."""
    kernel_clipping: str = "map"
    """Map size that a lite kernel shrinks to: the real one (`map`), or the one that the reference code counts
    down from 128 pixels for any image (`reference`; larger kernels at the end of the network)."""
    act_func: str = "relu"
    """Activation of the lite residual: `relu` and `relu6` keep one bit per element for backward; `h_swish`,
    `h_sigmoid`, `tanh` and `sigmoid` one float; `none` keeps nothing and learns least."""
    upsample_type: str = "bilinear"
    """How the lite residual is resized to its block's output: `bilinear`, `nearest` or `bicubic`. Changes
    neither parameters nor kept activations, and the memory of a step only a little."""
    gn_channel_per_group: int = 8
    """Channels that share GroupNorm statistics; shrinks if it does not divide a layer's width."""

    engine: str = "lean"
    """How the same gradients are computed: `lean` keeps only what backward reads; `stock` keeps what PyTorch
    keeps (several times the memory; for comparison)."""
    plan: str = "fast"
    """Rule that chooses `micro_batch_size` and `checkpoint` if they are unset: `fast` (about the
    fastest, stock included), `smallest` (least memory) or `budget` (the fastest that fits `budget_mib`)."""
    budget_mib: float | None = None
    """Largest peak memory of a training step, in MiB, with plan `budget`."""
    checkpoint: str = "auto"
    """Activations that backward recomputes instead of keeping them: `none`, `depthwise` (depthwise
    convolutions; lean only), `all` (every inverted residual, from its input), or `auto` (as the plan
    chooses). More recomputing needs less memory and up to a third more time; gradients stay the same."""
    stock_below_kib: float | None = None
    """Blocks whose largest intermediate is smaller run as PyTorch's own, which on small maps is faster and
    needs a little more memory. From 1048576 (1 GiB) on, all is PyTorch's own, with its memory; lean only.
    Default: the plan's."""
    memory_format: str | None = None
    """How maps lie in memory: `channels_last`, or `contiguous` (channel by channel), which a device may be
    faster with. Lean blocks work in channels_last. Default: the plan's, which measures both in a long run."""
    slice_mib: float | None = None
    """Largest intermediate of lean blocks in MiB: they walk the batch in slices of so many samples as fit it.
    Less needs less memory and more calls; gradients stay the same. Default: the plan's on a GPU (64 if that
    fits), 5 on a CPU, whose cache it fits."""
    cuda_graph: bool | None = None
    """Record the step once as CUDA graphs and replay it: one launch in place of a thousand, the same
    numbers. Needs memory for a copy of the micro-batch, and gradients that stay. A step that cannot be
    recorded runs as it is, and the run says why. Default: the plan's on a GPU, no on a CPU."""
    frozen_weights: str = "float32"
    """How weights that do not train are stored: `float32`, `bfloat16` (half the memory) or `int8` (a quarter;
    a scale per output channel). They are rounded once, and a block's weights are made float as it runs: a
    little accuracy and a little time for less memory. Weights that train, biases and norms stay float32."""
    optimizer: str = "adam"
    """`adam` or `adamw` (two moments per trained parameter) or `sgd` (one; none without momentum)."""
    moments: str = "float32"
    """How the two moments of `adam` and `adamw` are stored: `float32`, or `int8`, a quarter of the memory: 8
    bits, with a scale for each 256 of them; tensors of fewer than 4,096 numbers keep 32 bits. The same
    learning rates serve both."""
    momentum: float = 0.9
    """Momentum of `sgd`, in [0, 1)."""
    base_lr: float = 3e-4
    """Highest learning rate of the schedule, before the group's ratio."""
    lr_ratio: LrRatio = field(default_factory=LrRatio)
    """Multiples of `base_lr` by parameter group."""
    lr_schedule: str = "cosine"
    """How the learning rate falls: `cosine` (a little at every step, to zero at the end), `exponential` (by
    the factor `gamma` after each epoch) or `constant`."""
    gamma: float = 0.9
    """Factor of the learning rate after each epoch of an `exponential` schedule, in (0, 1]."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises to `base_lr` in equal steps; may be a fraction."""
    weight_decay: float = 0.0
    """L2 penalty (decoupled for `adamw`). The paper: 0."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes, in [0, 1)."""
    class_weighting: str = "none"
    """How much more the loss of rare classes counts: `none`, `inverse` (a class of half the images counts
    twice), or `effective` (less than that, see tinytl/training/class_weights.py). Rare classes are found
    more often then, and frequent ones less. Changes no memory but a number per class."""
    sampling: str = "shuffled"
    """Which training images an epoch has: `shuffled`, each once; or `balanced`, as many, but of every class
    alike, so that those of rare classes come several times and some of frequent ones not at all."""
    dropout: float = 0.2
    """Probability of dropping a feature before the classifier, in [0, 1)."""
    epochs: int = 10
    """Passes over the training images; the schedule ends with the last."""
    batch_size: int = 8
    """Samples per gradient step."""
    micro_batch_size: int | None = None
    """Samples in memory at a time, a divisor of `batch_size`: smaller needs less memory and gives the same
    gradient. Default: the plan's. Not with `batch_norm`, whose statistics would change."""
    resolution: int = 96
    """Height and width of the network's input in pixels; activation memory grows with its square."""
    crop_scale_min: float | None = None
    """Smallest share of the image's area that a training crop keeps, in (0, 1]. Default: the data set's."""
    flip: bool | None = None
    """Mirror training images at random. Default: the data set's own (no for digits)."""
    precision: str = "float32"
    """Number format of the forward pass: `float32`; `tf32`, in which a GPU rounds the factors of 32-bit
    products to 10 bits (as `float32` on a CPU); or mixed precision with `bfloat16` or `float16` (with
    loss scaling), which on a GPU is faster and needs less memory; on most CPUs it is slower. Parameters,
    gradients and moments stay float32."""
    metric: str = "accuracy_top1"
    """Which figure of the validation images decides the best epoch: `accuracy_top1`, `balanced_accuracy` (the
    mean recall of the classes) or `macro_f1` (their mean F1). The last two count rare classes like others."""
    seed: int = 0
    """Seed of initialisation, order, crops and dropout; on a CPU the same seed gives the same result."""
    data_seed: int | None = None
    """Seed of the images' order and crops alone. Runs of FT-Last that differ in `seed` and agree in this one
    share a forward pass. Default: `seed`."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto` (a GPU if there is one)."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if self.weights is None:  # YAML's none
            set_(self, "weights", "none")
        if not isinstance(self.weights, str):
            raise ConfigError(f"weights={self.weights!r} is neither imagenet, none, a file nor a URL")
        if self.data_dir is not None and not isinstance(self.data_dir, str):
            raise ConfigError(f"data_dir={self.data_dir!r} is no folder's name")
        if self.exclude is not None and not isinstance(self.exclude, str):
            raise ConfigError(f"exclude={self.exclude!r} is no file's name")
        if self.lite_weights is not None and not isinstance(self.lite_weights, str):
            raise ConfigError(f"lite_weights={self.lite_weights!r} is neither a file nor a URL")
        set_(self, "weights", set_apart(self.weights))  # a configuration is written in many places
        if self.lite_weights is not None:
            set_(self, "lite_weights", set_apart(self.lite_weights))
        set_(self, "dataset", dataset_name(self.dataset))
        set_(self, "loading", choose("loading", self.loading, LOADINGS))
        set_(self, "backbone", choose("backbone", self.backbone, BACKBONES))
        set_(self, "method", choose("method", self.method, METHODS))
        set_(self, "norm", choose("norm", self.norm, NORMS))
        set_(self, "select", choose("select", self.select, SELECTIONS))
        set_(self, "update_layers", _layer_kinds(self.update_layers))
        set_(self, "bias_blocks", _bias_blocks(self.bias_blocks))
        set_(self, "engine", choose("engine", self.engine, ENGINES))
        set_(self, "plan", choose("plan", self.plan, PLANS))
        set_(self, "checkpoint", choose("checkpoint", self.checkpoint, CHECKPOINTS))
        set_(self, "optimizer", choose("optimizer", self.optimizer, OPTIMIZERS))
        set_(self, "moments", choose("moments", self.moments, MOMENTS))
        set_(self, "lr_schedule", choose("lr_schedule", self.lr_schedule, LR_SCHEDULES))
        set_(self, "metric", choose("metric", self.metric, tuple(METRICS)))
        set_(self, "class_weighting", choose("class_weighting", self.class_weighting, CLASS_WEIGHTINGS))
        set_(self, "sampling", choose("sampling", self.sampling, SAMPLINGS))
        set_(self, "precision", choose("precision", self.precision, PRECISIONS))
        set_(self, "frozen_weights", choose("frozen_weights", self.frozen_weights, FROZEN_WEIGHTS))
        if self.memory_format is not None:
            set_(self, "memory_format", choose("memory_format", self.memory_format, MEMORY_FORMATS))
        set_(self, "device", choose("device", self.device, DEVICES))
        set_(self, "kernel_clipping", choose("kernel_clipping", self.kernel_clipping, KERNEL_CLIPPINGS))
        set_(self, "act_func", choose("act_func", self.act_func, ACT_FUNCS))
        set_(self, "upsample_type", choose("upsample_type", self.upsample_type, UPSAMPLE_TYPES))
        if self.method == "Scratch" and self.weights == "imagenet":
            set_(self, "weights", "none")
        self._check_numbers()
        self._check_together()

    @property
    def samples_in_memory(self) -> int:
        """Samples whose activations exist at once: the micro-batch, or the whole batch if none is set (as in
        plan `fast`).
        """
        return self.micro_batch_size or self.batch_size

    @property
    def parameter_groups(self) -> tuple[str, ...]:
        """The names of the groups of parameters that train, in order."""
        groups = METHOD_GROUPS[self.method]
        return groups if self.bias_blocks not in ("none", 0) else tuple(g for g in groups if g != "bias")

    @property
    def order_seed(self) -> int:
        """The seed of the training images' order and crops."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def filled_lr_ratio(self) -> LrRatio:
        """The multiples of `base_lr` with that of the lite residuals filled in."""
        if self.lr_ratio.lite_residual is not None:
            return self.lr_ratio
        random = self.lite_weights is None and self.optimizer in ("adam", "adamw")
        return dataclasses.replace(self.lr_ratio, lite_residual=RANDOM_BRANCHES_LR_RATIO if random else 1.0)

    def lite_ratio(self, given: float | None) -> float | None:
        """Returns the multiple of `base_lr` at which the lite residuals would train if
        `lr_ratio.lite_residual` was `given`; None if the method has none.

        Configurations are compared by it: older versions wrote 1 for every method.
        """
        if self.method not in LITE_METHODS:
            return None
        ratio = dataclasses.replace(self.lr_ratio, lite_residual=given)
        return dataclasses.replace(self, lr_ratio=ratio).filled_lr_ratio.lite_residual

    @property
    def pools_to_one_pixel(self) -> bool:
        """Whether some norm sees maps of one pixel: then batch norm needs two samples."""
        last_map = -(-self.resolution // NETWORK_STRIDE)
        if self.method in LITE_METHODS:
            if self.kernel_clipping == "reference":
                last_map = min(last_map, REFERENCE_LAST_MAP)
            return self.downsample_ratio is None or last_map // self.downsample_ratio <= 1
        return last_map == 1

    def _check_numbers(self) -> None:
        for name in ("n_groups", "gn_channel_per_group", "epochs", "batch_size"):
            require_int(name, getattr(self, name), low=1)
        for name, low in (("num_classes", 2), ("micro_batch_size", 1), ("downsample_ratio", 1)):
            if getattr(self, name) is not None:
                require_int(name, getattr(self, name), low=low)
        require_int("resolution", self.resolution, low=32)
        require_int("seed", self.seed, low=0, high=MOST_SEED)
        if self.data_seed is not None:
            require_int("data_seed", self.data_seed, low=0, high=MOST_SEED)
        if self.loader_workers is not None:
            require_int("loader_workers", self.loader_workers, low=0)
        require_int("kernel_size", self.kernel_size, low=1)
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={self.kernel_size} is even: use an odd kernel such as 3 or 5")
        require_number("expand", self.expand, above=0.0)
        require_number("base_lr", self.base_lr, above=0.0)
        require_number("momentum", self.momentum, low=0.0, below=1.0)
        require_number("gamma", self.gamma, above=0.0, high=1.0)
        require_number("warmup_epochs", self.warmup_epochs, low=0.0)
        require_number("weight_decay", self.weight_decay, low=0.0)
        require_number("label_smoothing", self.label_smoothing, low=0.0, below=1.0)
        require_number("dropout", self.dropout, low=0.0, below=1.0)
        if self.crop_scale_min is not None:
            require_number("crop_scale_min", self.crop_scale_min, above=0.0, high=1.0)
        if self.budget_mib is not None:
            require_number("budget_mib", self.budget_mib, above=0.0)
        if self.stock_below_kib is not None:
            require_number("stock_below_kib", self.stock_below_kib, low=0.0)
        if self.slice_mib is not None:
            require_number("slice_mib", self.slice_mib, above=0.0)
        for name in ("flip", "cuda_graph"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} is neither true nor false")
        for name in ("weight_standardization", "skip_broken"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} is neither true nor false")
        for name, above in (("input_mean", None), ("input_std", 0.0)):
            value = getattr(self, name)
            if value is not None:
                if not isinstance(value, tuple) or len(value) != 3:
                    raise ConfigError(f"{name}={value!r} is not three numbers: give one, or R,G,B")
                for channel in value:
                    require_number(name, channel, above=above)

    def _check_together(self) -> None:
        all_stock = self.engine == "stock" or (self.stock_below_kib or 0.0) >= ALL_STOCK_KIB
        if self.memory_format == "contiguous" and not all_stock:
            raise ConfigError(
                "memory_format=contiguous is for engine=stock: lean blocks work in channels_last (plan=fast "
                "measures both, and chooses)"
            )
        if self.plan == "budget" and self.budget_mib is None:
            raise ConfigError("plan=budget without budget_mib: give the budget in MiB")
        if self.plan != "budget" and self.budget_mib is not None:
            raise ConfigError(
                f"budget_mib={self.budget_mib:g} has no effect with plan={self.plan}: use plan=budget"
            )
        if self.checkpoint == "depthwise" and self.engine == "stock":
            raise ConfigError("checkpoint=depthwise needs engine=lean: use checkpoint none or all")
        micro = self.micro_batch_size
        if micro is not None and self.batch_size < micro:
            raise ConfigError(f"micro_batch_size={micro} is above batch_size={self.batch_size}")
        if micro is not None and self.batch_size % micro:
            raise ConfigError(f"micro_batch_size={micro} does not divide batch_size={self.batch_size}")
        if micro is not None and micro < self.batch_size and self.norm == "batch_norm":
            raise ConfigError(
                f"micro_batch_size={micro} with norm=batch_norm would change the batch's statistics: "
                "use norm frozen_bn or group_norm, or leave micro_batch_size unset"
            )
        if self.norm == "batch_norm" and self.batch_size == 1 and self.pools_to_one_pixel:
            raise ConfigError(
                f"batch_size=1 with norm=batch_norm at {self.resolution} px leaves one value a channel: "
                "use a larger batch or resolution, or norm frozen_bn or group_norm"
            )
        if self.frozen_weights != "float32" and self.method in ALL_TRAINING_METHODS:
            raise ConfigError(
                f"frozen_weights={self.frozen_weights} has no effect: {self.method} trains every weight, and "
                "they stay float32"
            )
        if self.momentum != TrainConfig.momentum and self.optimizer != "sgd":
            raise ConfigError(
                f"momentum={self.momentum:g} has no effect with optimizer={self.optimizer}: use sgd"
            )
        if self.moments != "float32" and self.optimizer == "sgd":
            raise ConfigError(
                f"moments={self.moments} is for adam and adamw, whose moments it stores: leave it out with "
                "optimizer=sgd"
            )
        if self.gamma != TrainConfig.gamma and self.lr_schedule != "exponential":
            raise ConfigError(
                f"gamma={self.gamma:g} has no effect with lr_schedule={self.lr_schedule}: use exponential"
            )
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(f"warmup_epochs={self.warmup_epochs:g} leaves nothing of epochs={self.epochs}")
        if self.lite_weights is not None and self.method not in LITE_METHODS:
            raise ConfigError(
                f"lite_weights={self.lite_weights} has no effect: {self.method} has no lite residuals, "
                f"{' and '.join(LITE_METHODS)} have"
            )
        if self.method == "Scratch" and self.weights != "none":
            raise ConfigError(
                f"weights={self.weights} with method=Scratch, which starts from random ones: leave out "
                "weights, or use method FT-Full"
            )
        if self.norm == "frozen_bn" and (self.method == "Scratch" or self.weight_standardization):
            what = "method=Scratch" if self.method == "Scratch" else "weight_standardization"
            raise ConfigError(
                f"{what} with norm=frozen_bn: no statistics that could be frozen belong to its weights: "
                "use norm batch_norm or group_norm"
            )
        self._check_sparse()
        groups = self.parameter_groups
        for name, ratio in dataclasses.asdict(self.lr_ratio).items():
            if ratio not in (1.0, None) and name not in groups:
                raise ConfigError(
                    f"lr_ratio.{name}={ratio:g} has no effect: {self.method} trains {', '.join(groups)}"
                )

    def _check_sparse(self) -> None:
        if self.method != "Sparse":
            for name in SPARSE_FIELDS:
                value = getattr(self, name)
                if value != getattr(TrainConfig, name):
                    raise ConfigError(
                        f"{name}={value} has no effect with method={self.method}: use method Sparse"
                    )
            return
        if self.channel_ratio is not None:
            require_number("channel_ratio", self.channel_ratio, above=0.0, high=1.0)
        in_parts = self.channel_ratio not in (None, 1) or self.select != "last" or self.plan == "budget"
        if self.weight_standardization and in_parts and self.update_scheme is None:
            raise ConfigError(
                "weight_standardization with convolutions that train in part (channel_ratio, select, "
                "budget): each value of such a weight depends on all of its filter: leave one of them out"
            )
        n_blocks = BLOCKS[self.backbone]
        for name in ("update_blocks", "bias_blocks"):
            value = getattr(self, name)
            if value is None or isinstance(value, str):
                continue
            require_int(name, value, low=0 if name == "bias_blocks" else 1)
            if value > n_blocks:
                raise ConfigError(f"{name}={value} is above the {n_blocks} blocks of {self.backbone}")
        if self.update_scheme is not None and not isinstance(self.update_scheme, str):
            raise ConfigError(f"update_scheme={self.update_scheme!r} is no text: leave it to select")


def _layer_kinds(text: object) -> str:
    """Returns the kinds of convolutions in the order of a block, joined by a plus.

    Raises:
        ConfigError: naming the one that is unknown.
    """
    given = [choose("update_layers", kind.strip(), LAYER_KINDS) for kind in re.split(r"[+,]", str(text))]
    return "+".join(kind for kind in LAYER_KINDS if kind in given)


def _bias_blocks(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return choose("bias_blocks", "none" if value is None else str(value), ("same", "all", "none"))


FIELDS_WITHOUT_MEMORY = (
    "dataset data_dir loading loader_workers skip_broken exclude weights lite_weights input_mean input_std "
    "base_lr lr_ratio lr_schedule gamma warmup_epochs weight_decay label_smoothing sampling epochs "
    "crop_scale_min flip metric seed data_seed"
).split()
"""Fields that leave the peak memory of a training step as it is."""
