"""ProxylessNAS-Mobile (4,080,512 parameters with 1,000 classes), and the layouts of its authors' checkpoints.

Source: ProxylessNAS, Cai et al. 2019, figure 4 (mobile); the network of the TinyTL paper. Names: mit-han-lab
ProxylessNAS `proxyless_nas/nas_modules.py` (`mobile_inverted_conv`), once-for-all `ofa/utils/layers.py`
(`conv`) and tinyml `tinytl/model/modules.py` (`main_branch`, `lite_residual`). docs/migration.md has the
addresses of the authors' files.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from tinytl.networks.backbones.inverted_residual import BlockSpec, InvertedResidualNet

PUBLISHED = "https://raw.githubusercontent.com/han-cai/files/master/proxylessnas/proxyless_mobile.pth"
"""The authors' weights with batch norm, by their model zoo."""
INPUT_MEAN = (0.485, 0.456, 0.406)
INPUT_STD = (0.229, 0.224, 0.225)

_STAGES = (
    # width, stride of the first block, (expansion, kernel) of each block
    (16, 1, ((1, 3),)),
    (32, 2, ((3, 5), (3, 3))),
    (40, 2, ((3, 7), (3, 3), (3, 5), (3, 5))),
    (80, 2, ((6, 7), (3, 5), (3, 5), (3, 5))),
    (96, 1, ((6, 5), (3, 5), (3, 5), (3, 5))),
    (192, 2, ((6, 7), (6, 7), (3, 7), (3, 7))),
    (320, 1, ((6, 7),)),
)

_SKIPPED_BLOCKS = (3, 4)
_AUTHORS_BLOCK = re.compile(
    r"blocks\.(\d+)\.(?:mobile_inverted_conv|conv)\."
    r"(?:lite_residual\.(?P<lite>\w+)|(?:main_branch\.)?(?P<main>\w+\.(?:conv|bn)))\.\w+$"
)


def build(num_classes: int = 1000) -> nn.Module:
    """Returns the network with random weights."""
    blocks = [
        BlockSpec(width, kernel, stride if index == 0 else 1, expand)
        for width, stride, members in _STAGES
        for index, (expand, kernel) in enumerate(members)
    ]
    # Epsilon of every published ProxylessNAS configuration.
    return InvertedResidualNet(blocks, num_classes=num_classes, norm_eps=1e-3)


def rename(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the authors' layouts (`blocks.1.conv.depth_conv.bn.bias`) to ours (`features.2.conv.1.1.bias`).

    Other names stay as they are. Lite residuals become `features.2.lite_residual.conv1.weight`.
    """
    blocks = sum(len(members) for _, _, members in _STAGES)
    top = {"first_conv.conv": "features.0.0", "first_conv.bn": "features.0.1"}
    top |= {"feature_mix_layer.conv": f"features.{blocks + 1}.0"}
    top |= {"feature_mix_layer.bn": f"features.{blocks + 1}.1", "classifier.linear": "classifier.1"}
    inside = {"inverted_bottleneck.conv": "0.0", "inverted_bottleneck.bn": "0.1", "depth_conv.conv": "1.0"}
    inside |= {"depth_conv.bn": "1.1", "point_linear.conv": "2", "point_linear.bn": "3"}
    first = {
        "depth_conv.conv": "0.0",
        "depth_conv.bn": "0.1",
        "point_linear.conv": "1",
        "point_linear.bn": "2",
    }
    found = [_AUTHORS_BLOCK.match(name) for name in state_dict]
    # The published file numbers two blocks that do nothing: the third and fourth of the first stage of four.
    counts_skipped = any(match is not None and int(match[1]) >= blocks for match in found)

    def ours(name: str, block: re.Match[str] | None) -> str:
        module, _, leaf = name.rpartition(".")
        if block is None:
            return f"{top[module]}.{leaf}" if module in top else name
        index = int(block[1])
        if counts_skipped and index in _SKIPPED_BLOCKS:
            return name
        number = index + 1 - (sum(skipped < index for skipped in _SKIPPED_BLOCKS) if counts_skipped else 0)
        if block["lite"] is not None:
            return f"features.{number}.lite_residual.{block['lite']}.{leaf}"
        names = first if index == 0 else inside
        return f"features.{number}.conv.{names[block['main']]}.{leaf}" if block["main"] in names else name

    return {ours(name, block): value for (name, value), block in zip(state_dict.items(), found, strict=True)}
