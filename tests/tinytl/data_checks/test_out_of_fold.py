import numpy as np
import pytest
import torch

from tinytl.data_checks.label_errors import label_suspects
from tinytl.data_checks.out_of_fold import (
    FOLDS,
    out_of_fold_probabilities,
    principal_components,
    stratified_folds,
)


def _clusters(n_per_class: int, n_classes: int = 3, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(n_classes, width, generator=generator)
    labels = torch.arange(n_classes).repeat_interleave(n_per_class)
    return centres[labels] + torch.randn(len(labels), width, generator=generator), labels


def test_each_class_is_spread_over_all_folds() -> None:
    labels = torch.tensor([0] * 13 + [1] * 50 + [2] * 3)
    folds = stratified_folds(labels, 0)
    for label, size in ((0, 13), (1, 50), (2, 3)):
        counts = torch.bincount(folds[labels == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1 and counts.sum() == size
    assert not torch.equal(folds, stratified_folds(labels, 1))
    assert torch.equal(folds, stratified_folds(labels, 0))


@pytest.mark.parametrize("at_once", [7, 4096])
def test_components_keep_distances_up_to_a_scale(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinytl.data_checks.out_of_fold.AT_ONCE", at_once)
    features, _ = _clusters(20, width=6)
    narrow = principal_components(features.half(), 6)
    before, after = torch.pdist(features), torch.pdist(narrow)
    ratio = after / before
    assert ratio.std() / ratio.mean() < 0.01
    assert narrow.square().sum(1).mean().item() == pytest.approx(6, rel=1e-4)
    assert principal_components(features, 2).shape == (60, 2)


def test_flipped_labels_are_found_by_heads_that_did_not_see_them() -> None:
    features, labels = _clusters(40)
    wrong = labels.clone()
    wrong[[3, 50, 100]] = torch.tensor([1, 2, 0])
    probabilities = out_of_fold_probabilities(features, wrong, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert (probabilities.argmax(1) == labels.numpy()).mean() > 0.97
    suspects = label_suspects(probabilities, wrong.numpy())
    assert {s.row for s in suspects[:3]} == {3, 50, 100}
    assert [s.likely for s in sorted(suspects[:3])] == [0, 1, 2]


def test_the_same_pictures_give_the_same_figures_and_draw_nothing_global() -> None:
    features, labels = _clusters(10)
    state = torch.get_rng_state()
    first = out_of_fold_probabilities(features, labels, 3)
    np.testing.assert_array_equal(first, out_of_fold_probabilities(features, labels, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_of_one_picture_does_no_harm() -> None:
    features, labels = _clusters(10)
    labels[0] = 3
    assert np.isfinite(out_of_fold_probabilities(features, labels, 4)).all()
