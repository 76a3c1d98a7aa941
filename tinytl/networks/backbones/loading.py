"""Loading weights into a network whose surgery is done, with an account of every tensor."""

from collections.abc import Mapping

from torch import Tensor, nn

from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.backbones.load_account import COUNTER, LoadAccount, Taken, is_lite, is_statistic
from tinytl.networks.backbones.weights import Weights

Shape = tuple[int, ...]


def load_weights_(net: nn.Module, weights: Weights, config: TrainConfig) -> LoadAccount:
    """Copies `weights` into `net`, whose surgery is done; the classifier is never loaded, as it is new.

    Raises:
        ConfigError: as `fit_weights`; `net` is then unchanged.
    """
    fitting, account = fit_weights(net, weights, config)
    net.load_state_dict(fitting, strict=False)
    return account


def fit_weights(
    net: nn.Module, weights: Weights, config: TrainConfig
) -> tuple[dict[str, Tensor], LoadAccount]:
    """Finds the tensor of `weights` for each of `net`; only shapes are read, so `net` may be on `meta`.

    Raises:
        ConfigError: naming the first tensor whose shape does not fit or that the source lacks; for lite
            residuals also the field to change.
    """
    # A block inside a lite residual module is `main_branch`; files use the block's own name.
    own = {name.replace(".main_branch.", "."): name for name in net.state_dict()}
    shapes = {plain: tuple(value.shape) for plain, value in _plain(net.state_dict()).items()}
    features = {name: shape for name, shape in shapes.items() if name.startswith("features.")}
    main = lite = None
    given: dict[str, Tensor] = {}
    if weights.backbone is not None:
        mine = {name: shape for name, shape in features.items() if not is_lite(name)}
        theirs = _plain(weights.backbone.state_dict)
        if weights.lite is not None and weights.lite.source == weights.backbone.source:
            theirs = {name: value for name, value in theirs.items() if not is_lite(name)}
        _check_backbone(mine, theirs, weights.backbone.source, config)
        main = _take(given, mine, theirs, weights.backbone.named)
    if weights.lite is not None:
        mine = {name: shape for name, shape in features.items() if is_lite(name)}
        theirs = {n: v for n, v in _plain(weights.lite.state_dict).items() if is_lite(n)}
        _check_lite(mine, theirs, weights.lite.source, config)
        lite = _take(given, mine, theirs, weights.lite.named)
    new = tuple(name for name in shapes if name not in given and not name.endswith(COUNTER))
    account = LoadAccount(backbone=main, lite=lite, new=new, hint=_hint(weights, config))
    return {own[n]: value for n, value in given.items()}, account


def _hint(weights: Weights, config: TrainConfig) -> str:
    """Asks for weight standardisation if a file may need it: those of networks with group norm often do."""
    if weights.backbone is None or config.weight_standardization or config.norm == "frozen_bn":
        return ""
    if any(map(is_statistic, weights.backbone.state_dict)):
        return ""
    return (
        "it has no running statistics, so it is of a network with group norm: if that was trained with "
        "weight standardisation, as the TinyTL authors' ...@ws+gn was, set weight_standardization"
    )


def _plain(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(".main_branch.", "."): value for name, value in state_dict.items()}


def _take(
    given: dict[str, Tensor], mine: Mapping[str, object], theirs: Mapping[str, Tensor], source: str
) -> Taken:
    found = {name: value for name, value in theirs.items() if name in mine}
    given |= found
    loaded = {name: value for name, value in found.items() if not name.endswith(COUNTER)}
    return Taken(
        source=source,
        loaded=tuple(loaded),
        values=sum(value.numel() for value in loaded.values()),
        dropped=tuple(name for name in theirs if name not in mine and not name.endswith(COUNTER)),
    )


def _check_backbone(
    mine: Mapping[str, Shape], theirs: Mapping[str, Tensor], source: str, config: TrainConfig
) -> None:
    for name, value in theirs.items():
        if name in mine and tuple(value.shape) != mine[name]:
            raise ConfigError(
                f"--weights {source}: {name} has shape {tuple(value.shape)}, the network needs {mine[name]}"
            )
    missing = _missing(mine, theirs)
    if missing and all(is_statistic(name) for name in missing):
        if config.norm != "frozen_bn":
            return  # batch norm restarts its statistics
        raise ConfigError(
            f"--weights {source}: {missing[0]} is not in the file (of a network with group norm?), and "
            "norm=frozen_bn needs it: use norm group_norm (for the TinyTL authors' ...@ws+gn with "
            "weight_standardization) or batch_norm"
        )
    if missing:
        raise ConfigError(
            f"--weights {source}: {missing[0]} is not in the file ({len(missing)} of {len(mine)} tensors are "
            f"missing): is it for another backbone than {config.backbone}?"
        )


def _check_lite(
    mine: Mapping[str, Shape], theirs: Mapping[str, Tensor], source: str, config: TrainConfig
) -> None:
    if not theirs:
        raise ConfigError(
            f"--lite-weights {source}: it holds no lite residuals (no name has .lite_residual.)"
        )
    for name, shape in mine.items():
        if name in theirs and tuple(theirs[name].shape) != shape:
            remedy = _lite_remedy(name, shape, theirs, config)
            raise ConfigError(
                f"--lite-weights {source}: {name} has shape {tuple(theirs[name].shape)}, "
                f"the network needs {shape}: {remedy}"
            )
    # Statistics may be missing: group norm has none, and batch norm restarts them.
    missing = [name for name in _missing(mine, theirs) if not is_statistic(name)]
    if missing:
        raise ConfigError(
            f"--lite-weights {source}: {missing[0]} is not in the file ({len(missing)} of {len(mine)} "
            f"tensors are missing): is it for another backbone than {config.backbone}?"
        )


def _lite_remedy(name: str, shape: Shape, theirs: Mapping[str, Tensor], config: TrainConfig) -> str:
    """Returns the field whose change would make a lite residual's tensor fit."""
    given = tuple(theirs[name].shape)
    if name.split(".")[-2] == "conv1" and len(given) == 4:
        in_channels = shape[1] * config.n_groups
        if given[0] != shape[0]:
            return f"try expand={given[0] / in_channels:.3g}"
        if given[1] != shape[1]:
            return f"try n_groups={in_channels / given[1]:.3g}"
        kernel_size = max(t.shape[-1] for n, t in theirs.items() if n.endswith("conv1.weight"))
        if kernel_size != config.kernel_size:
            return f"try kernel_size={kernel_size}"
        return (
            "kernels shrink on small maps, so try another resolution or downsample_ratio than "
            f"{config.resolution} and {config.downsample_ratio}"
        )
    return f"is it for another backbone than {config.backbone}?"


def _missing(mine: Mapping[str, object], theirs: Mapping[str, Tensor]) -> list[str]:
    return [name for name in mine if name not in theirs and not name.endswith(COUNTER)]
