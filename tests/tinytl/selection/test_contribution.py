import dataclasses

import numpy as np
import pytest

from tests.support.cases import small
from tests.support.colours import colours
from tinytl.data.splits import ImageSet
from tinytl.errors import ConfigError
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.networks.update_scheme import convolution, layers_of
from tinytl.selection import contribution

CONFIG = small(method="Sparse", norm="group_norm")
DATA = colours(24, 12)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contribution, "STEPS", 2)
    monkeypatch.setattr(contribution, "RESOLUTION", 32)


def test_each_convolution_trains_alone_from_the_same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, starts = [], []
    train = contribution._train

    def spied(net, normalize, layer, batches):
        first = convolution(net, layers_of(CONFIG)[0].name).weight
        starts.append((float(first.detach().sum()), len(batches), float(batches[0][0].float().mean())))
        train(net, normalize, layer, batches)
        trained.append((layer and layer.name, [n for n, p in net.named_parameters() if p.requires_grad]))

    monkeypatch.setattr(contribution, "_train", spied)
    gains = contribution.contributions(CONFIG, DATA, RANDOM_WEIGHTS)
    assert list(gains) == [layer.name for layer in layers_of(CONFIG)]
    head = ["classifier.1.weight", "classifier.1.bias"]
    assert trained[0] == (None, head)
    names = dict(trained)
    assert names["5.pw1"] == ["features.5.conv.0.0.weight", *head]
    assert len(set(starts)) == 1
    assert all(abs(gain) <= 1 for gain in gains.values()) and len(set(gains.values())) > 1


def test_the_same_for_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contribution, "layers_of", lambda config: layers_of(config)[::10])
    config = dataclasses.replace(CONFIG, update_layers="dw")
    first, second = (contribution.contributions(config, DATA, RANDOM_WEIGHTS) for _ in range(2))
    assert first == second


def test_without_validation_images_it_is_refused() -> None:
    none = ImageSet(np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64))
    data = dataclasses.replace(DATA, val=none)
    with pytest.raises(ConfigError, match="select=contribution needs validation images: use select fisher"):
        contribution.contributions(CONFIG, data, RANDOM_WEIGHTS)
