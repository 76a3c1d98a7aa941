import subprocess
import sys

import pytest

from tinytl.config.train_config import TrainConfig
from tinytl.networks.own_resolution import at_own_resolution


@pytest.mark.parametrize(
    ("backbone", "pixels"),
    [
        ("efficientnet_lite0", 96),  # one of this project
        ("torchvision/efficientnet_b3", 300),
        ("torchvision/mobilenet_v2@0.5", 224),
        ("timm/tf_efficientnet_lite2", 260),
        ("timm/mobilenetv3_small_075", 224),
    ],
)
def test_a_network_of_another_package_has_its_own_size(backbone, pixels):
    assert at_own_resolution(TrainConfig(backbone=backbone)).resolution == pixels


def test_torch_is_imported_for_such_a_network_only():
    code = (
        "import sys; from tinytl.config.train_config import TrainConfig as C; "
        "from tinytl.networks.own_resolution import at_own_resolution as own; "
        "assert own(C()) == C(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
