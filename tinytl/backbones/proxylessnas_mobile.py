"""ProxylessNAS-Mobile (4,080,512 parameters with 1,000 classes).

Source: ProxylessNAS, Cai et al. 2019, figure 4 (mobile); the network of the TinyTL paper.
"""

from torch import nn

from tinytl.backbones.inverted_residual import BlockSpec, InvertedResidualNet

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


def build(num_classes: int = 1000) -> nn.Module:
    """Returns the network with random weights."""
    blocks = [
        BlockSpec(width, kernel, stride if index == 0 else 1, expand)
        for width, stride, members in _STAGES
        for index, (expand, kernel) in enumerate(members)
    ]
    return InvertedResidualNet(blocks, num_classes=num_classes)
