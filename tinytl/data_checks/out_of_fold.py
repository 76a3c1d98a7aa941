"""Probabilities of each class for each picture, from heads that were not fitted to that picture.

A head is a logistic regression on features, cross-validated: each fifth of the pictures is judged by a head
that was fitted to the other four. Wrong labels are few, and a head that cannot learn them by heart shows
them; so the decay is the one, of DECAYS, under which the held-out labels are the likeliest.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

FOLDS = 5
REPETITIONS = 3
"""Divisions into folds whose probabilities are averaged."""
DECAYS = (0.01, 0.03, 0.1)
"""Factors of the squared weights in the loss."""
WIDTH = 256
"""Directions of the features in which pictures differ most, that a head sees: it is fitted in seconds."""
ITERATIONS = 50
AT_ONCE = 4096
"""Rows of features that are floats of 32 bits at a time."""


def out_of_fold_probabilities(
    features: Tensor, labels: Tensor, n_classes: int, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Returns `(N, K)`: the probability of each class for each picture.

    Args:
        features: `(N, C)`, on a CPU, of a network that was not trained on these pictures.
        labels: `(N,)` int64.
        n_classes: K.
        seed: of the folds.
    """
    narrow = principal_components(features, WIDTH)
    decay = min(DECAYS, key=lambda decay: _loss(_judged(narrow, labels, n_classes, decay, seed), labels))
    rounds = [_judged(narrow, labels, n_classes, decay, seed + turn) for turn in range(REPETITIONS)]
    return torch.stack(rounds).mean(0).double().numpy()


def principal_components(features: Tensor, width: int) -> Tensor:
    """Returns the features in the `width` directions of most variance, `(N, min(width, C))` float32.

    Scaled so that a picture's squared length is the number of directions in the mean.
    """
    parts = features.split(AT_ONCE)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0).div(len(features)).float()
    scatter = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in parts:
        centred = part.float() - mean
        scatter += (centred.T @ centred).double()
    _, directions = torch.linalg.eigh(scatter)
    widest = directions.flip(1)[:, :width].float()
    narrow = torch.cat([(part.float() - mean) @ widest for part in parts])
    scale = narrow.square().sum(1).mean().div(narrow.shape[1]).sqrt()
    return narrow / scale.clamp(min=1e-12)


def stratified_folds(labels: Tensor, seed: int) -> Tensor:
    """Returns `(N,)`: the fold of each picture; each class is spread evenly over all folds."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(labels), np.int64)
    of_all = labels.numpy()
    for label in np.unique(of_all):
        members = rng.permutation(np.flatnonzero(of_all == label))
        folds[members] = (np.arange(len(members)) + rng.integers(FOLDS)) % FOLDS
    return torch.from_numpy(folds)


def _judged(features: Tensor, labels: Tensor, n_classes: int, decay: float, seed: int) -> Tensor:
    folds = stratified_folds(labels, seed)
    probabilities = torch.empty(len(labels), n_classes)
    for fold in range(FOLDS):
        held_out = folds == fold
        if held_out.any():
            weight, bias = _fit(features[~held_out], labels[~held_out], n_classes, decay)
            probabilities[held_out] = F.linear(features[held_out], weight, bias).softmax(1)
    return probabilities


def _loss(probabilities: Tensor, labels: Tensor) -> float:
    return float(-probabilities[torch.arange(len(labels)), labels].clamp(min=1e-12).log().mean())


def _fit(features: Tensor, labels: Tensor, n_classes: int, decay: float) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(n_classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(F.linear(features, weight, bias), labels) + decay * weight.square().sum()
        found.backward()
        return found

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach(), bias.detach()
