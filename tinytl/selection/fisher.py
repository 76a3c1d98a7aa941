"""Fisher information of each input channel of each convolution, on some of the user's training images.

For an image with loss L, the information of a channel is the squared gradient of L by the numbers of the
weight that read it: the diagonal of the empirical Fisher matrix, which says how much the prediction changes
with them.
Source: TinyTrain, Kwon et al. 2024, section 3.2; Theis et al. 2018.
"""

import torch
import torch.nn.functional as F

from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches
from tinytl.data.load import DataSplits
from tinytl.networks.backbones.weights import Weights
from tinytl.networks.update_scheme import convolution, layers_of, scheme_of_parts, whole
from tinytl.selection.scored_network import HEAD_IMAGES, fitted_network, of_scores, some_images

FISHER_IMAGES = 64
"""Images whose gradients are taken, one at a time."""

Scores = dict[str, list[float]]
"""By a layer's name, a number for each input channel."""


def fisher_information(config: TrainConfig, data: DataSplits, weights: Weights) -> Scores:
    """Returns the mean information of each channel of each convolution, on up to 64 training images.

    Needs as long as training on about twice as many images, and the memory of one sample under FT-Full.
    """
    layers = layers_of(config)
    config = of_scores(config, scheme_of_parts(map(whole, layers), config))
    device = torch.device("cpu")
    images = some_images(data.train, HEAD_IMAGES, config.seed)
    net, normalize, _ = fitted_network(config, weights, images, device)
    modules = {layer.name: convolution(net, layer.name) for layer in layers}
    sums = {layer.name: torch.zeros(layer.channels, device=device) for layer in layers}
    few = some_images(data.train, FISHER_IMAGES, config.seed)
    batches = eval_batches(few, batch_size=1, resolution=config.resolution, device=device, workers=0)
    for image, label in batches:
        F.cross_entropy(net(normalize(image)), label).backward()
        for name, conv in modules.items():
            assert conv.weight.grad is not None
            channel = 0 if conv.groups > 1 else 1
            others = [axis for axis in range(4) if axis != channel]
            sums[name] += conv.weight.grad.square().sum(others)
        net.zero_grad(set_to_none=True)
    return {name: (total / len(few)).tolist() for name, total in sums.items()}
