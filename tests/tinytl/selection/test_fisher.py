import torch
import torch.nn.functional as F

from tests.support.cases import small
from tests.support.colours import colours
from tinytl.data.batches import eval_batches
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.networks.update_scheme import convolution, layers_of, scheme_of_parts, whole
from tinytl.selection import fisher
from tinytl.selection.scored_network import fitted_network, of_scores, some_images

CONFIG = small(method="Sparse", norm="group_norm", update_layers="pw1+dw")
DATA = colours(12, 6)


def test_it_is_the_mean_of_squared_gradients_of_single_images(monkeypatch) -> None:
    monkeypatch.setattr(fisher, "FISHER_IMAGES", 3)
    found = fisher.fisher_information(CONFIG, DATA, RANDOM_WEIGHTS)
    layers = layers_of(CONFIG)
    assert list(found) == [layer.name for layer in layers]
    assert all(len(found[layer.name]) == layer.channels for layer in layers)

    config = of_scores(CONFIG, scheme_of_parts(map(whole, layers), CONFIG))
    cpu = torch.device("cpu")
    net, normalize, _ = fitted_network(config, RANDOM_WEIGHTS, some_images(DATA.train, 256, 0), cpu)
    expected = {layer.name: torch.zeros(layer.channels) for layer in layers}
    images = some_images(DATA.train, 3, 0)
    for batch, labels in eval_batches(images, batch_size=3, resolution=32, device=cpu, workers=0):
        losses = F.cross_entropy(net(normalize(batch)), labels, reduction="none")
        for loss in losses:
            for layer in layers:
                weight = convolution(net, layer.name).weight
                (grad,) = torch.autograd.grad(loss, weight, retain_graph=True)
                by_channel = grad if layer.kind == "dw" else grad.transpose(0, 1)
                expected[layer.name] += by_channel.reshape(layer.channels, -1).square().sum(1) / 3
    for name, values in found.items():
        assert torch.allclose(torch.tensor(values), expected[name], rtol=1e-3, atol=1e-9), name
    assert max(map(max, found.values())) > 0
