"""What one training run is: every choice that makes it, checked before torch is imported."""

import dataclasses
from dataclasses import dataclass, field

from tinytl.config.checks import require_number
from tinytl.config.chosen_names import chosen_names
from tinytl.config.conflicts import check_together
from tinytl.config.names import (
    LITE_METHODS,
    METHOD_GROUPS,
    NETWORK_STRIDE,
    RANDOM_BRANCHES_LR_RATIO,
    REFERENCE_LAST_MAP,
)
from tinytl.config.ranges import check_numbers


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
    for each batch), or `auto` (memory up to 2 GiB). No effect on training memory, nor on the images, unless
    all are smaller than 8/7 of `resolution`: a stream enlarges such pictures in two steps."""
    loader_workers: int | None = None
    """Processes that decode streamed images; 0: the training process decodes. Default: one per core,
    8 at most. No effect on results."""
    skip_broken: bool = False
    """Leave out images that do not decode, and count them; streamed images are all decoded once for this.
    Default: such an image is a mistake, and all are named."""
    exclude: str | None = None
    """File with the pictures to leave out: a path per line, relative to the data folder, or a table with a
    column `file`, such as `tinytl check --csv` writes. Splits stay as they are without it. Default: none."""
    min_per_class: int = 0
    """Leave out classes with fewer pictures than this, all splits together, after `exclude`; they are named.
    The other classes' splits stay as they are without it. 0: all classes stay."""
    num_classes: int | None = None
    """Number of classes. Default: the data set's (10 for the command `memory`, which reads no data set)."""
    backbone: str = "efficientnet_lite0"
    """Network: `efficientnet_lite0`, `mobilenet_v2` or `proxylessnas_mobile`, or another package's:
    `timm/NAME`, `torchvision/NAME` (`tinytl list --backbones mobile` names small ones)."""
    weights: str = "imagenet"
    """Initial weights of the backbone: `imagenet` (its newest; `imagenet_v1`, `imagenet_v2`: torchvision's
    two for mobilenet_v2), `none` (random; use `batch_norm` or `group_norm` then, as frozen statistics of a
    random network are useless), a file or URL of tensors (a URL is downloaded once), or a folder with a file
    per network, such as `DIR/timm/mobilenetv3_small_100.safetensors`. Method Scratch: always `none`."""
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
    mixup_alpha: float = 0.0
    """Mixes each training picture, and its label, with another one of its batch: by shares that are drawn per
    batch from Beta(alpha, alpha). Usual: 0.2, evener shares from 1 on; 0: off. Counters overfitting in long
    trainings, and may cost accuracy in short ones. A step then needs a number more per picture and class."""
    cutmix_alpha: float = 0.0
    """As `mixup_alpha`, but a box of each picture comes from the other one, and its area is what is drawn.
    Usual: 1; 0: off. If both are on, each batch has one of the two, drawn."""
    weight_average: float = 0.0
    """Decay of a moving average of the weights that train, in [0, 1): 0.99 averages about the last 100 steps;
    0: off. Validation, `best.pt`, and all that is made of a run use the average. It often gains accuracy, and
    needs memory for one more copy of what trains."""
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
    """Height and width of the network's input in pixels; activation memory grows with its square. Commands
    and studies of one `timm/NAME` or `torchvision/NAME` take the size for which it was made, unless given."""
    crop_scale_min: float | None = None
    """Smallest share of the image's area that a training crop keeps, in (0, 1]. Default: the data set's."""
    flip: bool | None = None
    """Mirror training images at random. Default: the data set's own (no for digits)."""
    rand_augment: int = 0
    """Strength of RandAugment, 1 to 30: each training picture is changed in two ways, drawn anew in every
    epoch (turned, sheared, shifted, more or less colour, contrast, brightness, ...), by torchvision. Usual:
    9; 0: off. Changes no memory of a step; in long trainings it counters overfitting, in short ones it may
    cost accuracy. The processes that decode pictures need more time."""
    precision: str = "float32"
    """Number format of the forward pass: `float32`; `tf32`, in which a GPU rounds the factors of 32-bit
    products to 10 bits (as `float32` on a CPU); or mixed precision with `bfloat16` or `float16` (with
    loss scaling), which on a GPU is faster and needs less memory; on most CPUs it is slower. Parameters,
    gradients and moments stay float32."""
    metric: str = "accuracy_top1"
    """Which figure of the validation images decides the best epoch: `accuracy_top1`, `balanced_accuracy` (the
    mean recall of the classes) or `macro_f1` (their mean F1). The last two count rare classes like others."""
    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout; on a CPU the same seed gives the same
    result."""
    data_seed: int | None = None
    """Seed of the images' order and augmentation alone. Runs of FT-Last that differ in `seed` and agree in
    this one share a forward pass. Default: `seed`."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto` (a GPU if there is one)."""

    def __post_init__(self) -> None:
        for name, value in chosen_names(self).items():
            object.__setattr__(self, name, value)
        check_numbers(self)
        check_together(self)

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
        """The seed of the training images' order and augmentation."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def mixes_pictures(self) -> bool:
        """Whether the pictures of a batch are mixed, so that a label is the share of each class."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

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
