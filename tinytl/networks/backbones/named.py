"""Networks of torchvision and timm as backbones: `torchvision/NAME` and `timm/NAME`.

Neither package is imported before such a name is asked for.
"""

import copy
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tinytl.config.names import BACKBONE_FAMILIES
from tinytl.errors import ConfigError, needs_extra
from tinytl.networks.backbones.backbone import Backbone, Channels
from tinytl.networks.backbones.load_account import COUNTER
from tinytl.networks.backbones.sequence import (
    Layout,
    SequenceNet,
    as_sequence,
    layout_of,
    remove_chance_,
    split_norms_,
)
from tinytl.networks.backbones.weights_file import read_file
from tinytl.networks.frozen_batch_norm import BATCH_NORMS

logger = logging.getLogger(__name__)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's weights."""
SIDE = 224
"""Of the images, in pixels, on which a network is tried as it is taken apart, unless it takes another size
alone."""


def is_named(backbone: str) -> bool:
    """Whether a backbone is another package's, such as `timm/mobilenetv3_small_100`."""
    return backbone.partition("/")[0] in BACKBONE_FAMILIES and "/" in backbone


@lru_cache
def named_backbone(name: str) -> Backbone:
    """Returns the backbone of a name such as `timm/mobilenetv3_small_100`.

    Raises:
        ConfigError: for an unknown name, with the nearest known one, a package that is missing, or a network
            that is no sequence of blocks with a linear head.
    """
    family, _, short = name.partition("/")
    return _of_timm(name, short) if family == "timm" else _of_torchvision(name, short)


def _of_torchvision(name: str, short: str) -> Backbone:
    with needs_extra(f"backbone {name}", "torchvision"):
        import torchvision.models as models
    short, at, width = short.partition("@")
    short = _known(name, short, models.list_models(module=models))
    kinds = models.get_model_weights(short)
    weights = getattr(kinds, "DEFAULT", None)
    options: dict[str, Any] = {"aux_logits": False} if short in ("googlenet", "inception_v3") else {}
    if at:
        options = {"width_mult": _width(name, short, width)}
    create = partial(models.get_model, short, **options)
    mean, std, side = IMAGENET_MEAN, IMAGENET_STD, None
    imagenet: dict[str, Callable[[], dict[str, Tensor]]] = {}
    if weights is not None:
        transforms = weights.transforms()
        mean, std, side = _channels(transforms.mean), _channels(transforms.std), transforms.crop_size[0]
    if weights is not None and not at:
        imagenet = {"imagenet": lambda: dict(read_file("--weights", weights.url).state_dict)}
    licence = (
        "BSD 3-Clause, torchvision's own; torchvision says that weights may have further terms, of the data "
        "that they were trained on (ImageNet)"
    )
    return _backbone(name, create, mean, std, imagenet, side, licence)


def _width(name: str, short: str, text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if short != "mobilenet_v2" or not 0.05 <= width <= 4:
        raise ConfigError(
            f"backbone {name}: after @ stands the width_mult of mobilenet_v2, from 0.05 to 4, as in "
            "torchvision/mobilenet_v2@0.5"
        )
    return width


def _of_timm(name: str, short: str) -> Backbone:
    with needs_extra(f"backbone {name}", "timm"):
        import timm
    architecture, _, tag = short.partition(".")
    architecture = _known(name, architecture, timm.list_models())
    whole = f"{architecture}.{tag}" if tag else architecture
    if tag and whole not in timm.list_pretrained():
        tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{architecture}.*")]
        raise ConfigError(f"backbone {name}: timm has no such weights; it has {', '.join(tags) or 'none'}")
    about = timm.get_pretrained_cfg(whole, allow_unregistered=False)
    imagenet: dict[str, Callable[[], dict[str, Tensor]]] = {}
    if about is not None and about.has_weights:
        imagenet = {"imagenet": partial(_timm_weights, name, whole)}
    mean = _channels(getattr(about, "mean", IMAGENET_MEAN))
    std = _channels(getattr(about, "std", IMAGENET_STD))
    licence = f"{getattr(about, 'license', None) or 'not stated'}, as timm says of {whole}"
    side = about.input_size[1] if about is not None else None
    tried = about.input_size[1] if about is not None and about.fixed_input_size else SIDE
    create = partial(timm.create_model, architecture)
    return _backbone(name, create, mean, std, imagenet, side, licence, tried)


def _timm_weights(name: str, whole: str) -> dict[str, Tensor]:
    import timm

    try:
        return dict(timm.create_model(whole, pretrained=True).state_dict())
    except Exception as error:  # of the network, of a hub, of a damaged file
        raise ConfigError(
            f"--weights imagenet: those of {name} cannot be read ({type(error).__name__}: "
            f"{_in_a_line(error)}): try again later, or give --weights FILE"
        ) from None


def _backbone(
    name: str,
    create: Callable[[], nn.Module],
    mean: Channels,
    std: Channels,
    imagenet: Mapping[str, Callable[[], dict[str, Tensor]]],
    side: int | None,
    licence: str,
    tried: int = SIDE,
) -> Backbone:
    with ThreadPoolExecutor(1) as apart:  # a thread of its own: the caller's may make networks without memory
        layout, names, skeleton = apart.submit(_taken_apart, name, create, tried).result()

    def build(num_classes: int) -> SequenceNet:
        if torch.empty(0).is_meta:  # as it is made, a network may compute with tensors
            made = copy.deepcopy(skeleton)
        else:
            net = create()
            _simplify_(net)
            made = as_sequence(net, layout)
        linear = made.classifier[-1]
        assert isinstance(linear, nn.Linear)
        if num_classes != linear.out_features:
            made.classifier[-1] = nn.Linear(linear.in_features, num_classes)
        return made

    shapes = {key: tuple(value.shape) for key, value in skeleton.state_dict().items()}

    def rename(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        renamed = {names.get(key, key): value for key, value in theirs.items()}
        if all(key in renamed for key in shapes if key.startswith("features.") and not key.endswith(COUNTER)):
            return renamed
        return _by_order(name, shapes, theirs) or renamed

    evaluated = copy.deepcopy(skeleton).eval()

    @lru_cache
    def check_resolution(resolution: int) -> None:
        why = _refusal(evaluated, torch.empty(2, 3, resolution, resolution, device="meta"))
        # Of a network that cannot run without memory, it says nothing.
        if why is None or _refusal(evaluated, torch.empty(2, 3, tried, tried, device="meta")) is not None:
            return
        raise ConfigError(
            f"backbone {name} takes no images of {resolution} px ({why}): use --resolution {side or tried}, "
            "or another backbone"
        )

    @lru_cache
    def norms_a_sample(resolution: int) -> bool:
        why = _refusal(copy.deepcopy(skeleton), torch.empty(1, 3, resolution, resolution, device="meta"))
        return why is None or "more than 1 value per channel" not in why

    return Backbone(
        build,
        mean,
        std,
        imagenet,
        rename,
        resolution=side,
        check_resolution=check_resolution,
        norms_a_sample=norms_a_sample,
        licence=licence,
    )


def _refusal(net: nn.Module, images: Tensor) -> str | None:
    """Returns why a network without memory does not take such images, None if it does."""
    try:
        with torch.no_grad():
            net(images)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        return _in_a_line(error)
    return None


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _by_order(
    name: str, shapes: Mapping[str, tuple[int, ...]], theirs: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Returns the tensors of a file with other names, if they are as many and have these shapes in order."""
    mine = [key for key in shapes if not key.endswith(COUNTER)]
    values = [value for key, value in theirs.items() if not key.endswith(COUNTER)]
    found = dict(zip(mine, values, strict=False))
    fits = all(tuple(v.shape) == shapes[key] for key, v in found.items() if key.startswith("features."))
    if len(mine) != len(values) or not fits:
        return None
    logger.warning("the weights have other names than %s: tensors are matched by order and shape", name)
    return found


def check_norms(name: str, net: nn.Module) -> None:
    """Raises ConfigError for a batch norm that could be neither frozen nor replaced."""
    for path, module in net.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in BATCH_NORMS:
            raise ConfigError(
                f"backbone {name}: its {path} is a {type(module).__name__}, a batch norm that cannot be "
                "frozen"
            )


def _simplify_(net: nn.Module) -> None:
    split_norms_(net)
    remove_chance_(net)


def _known(name: str, short: str, known: Sequence[str]) -> str:
    """Raises ConfigError with the nearest names for one that is not known: there are over a thousand."""
    if short in known:
        return short
    near = difflib.get_close_matches(short, known, 3)
    hint = f" did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"unknown backbone {name}:{hint} `tinytl list --backbones TEXT` names some")


def _taken_apart(
    name: str, create: Callable[[], nn.Module], side: int
) -> tuple[Layout, dict[str, str], SequenceNet]:
    """Returns how a network is taken apart, the new names of its tensors, and one without memory.

    Raises:
        ConfigError: if it cannot be, or is not the same afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = create().eval()
        example = torch.randn(1, 3, side, side)
        try:
            with torch.no_grad():
                before = net(example)
        except (RuntimeError, AssertionError, TypeError) as error:
            why = _in_a_line(error)
            raise ConfigError(f"backbone {name}: it takes no images of {side} px ({why})") from None
        original = {id(value): key for key, value in net.state_dict(keep_vars=True).items()}
        _simplify_(net)
        check_norms(name, net)
        try:
            layout = layout_of(net, f"backbone {name}", example)
            made = as_sequence(net, layout).eval()
            with torch.no_grad():
                after = made(example)
        except (RuntimeError, AttributeError, TypeError) as error:
            why = _in_a_line(error)
            raise ConfigError(f"backbone {name}: taken apart into blocks it does not run ({why})") from None
    if not (isinstance(before, Tensor) and torch.allclose(before, after, rtol=1e-4, atol=1e-5)):
        raise ConfigError(f"backbone {name}: taken apart into blocks it computes something else")
    new = made.state_dict(keep_vars=True)
    names = {original[id(value)]: key for key, value in new.items() if id(value) in original}
    return layout, names, made.train().to("meta")


def _channels(values: Any) -> Channels:
    mean, std, third = (float(value) for value in values)
    return mean, std, third
