import pytest

from tinytl.networks.backbones.load_account import LoadAccount, Taken, count_text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1000, "1.0 k"), (34_123, "34.1 k"), (2_223_872, "2.2 M")]
)
def test_count_text(count: int, text: str) -> None:
    assert count_text(count) == text


HEAD = ("classifier.1.weight", "classifier.1.bias")
LITE = tuple(f"features.2.lite_residual.{name}" for name in ("conv1.weight", "bn1.weight"))
LITE_STATISTICS = ("features.2.lite_residual.bn1.running_mean",)
STATISTICS = ("features.2.conv.3.running_mean", "features.2.conv.3.running_var")


def _taken(source: str, *dropped: str) -> Taken:
    return Taken(source=source, loaded=("features.0.0.weight",), values=1500, dropped=dropped)


def test_imagenet_with_new_lite_residuals() -> None:
    account = LoadAccount(backbone=_taken("imagenet", *HEAD), lite=None, new=(*HEAD, *LITE, *LITE_STATISTICS))
    assert str(account) == (
        "1 tensors (1.5 k values) from imagenet; new: 2 of the head, 2 of lite residuals (random); "
        "dropped: classifier.1.weight, classifier.1.bias"
    )


def test_group_norm_drops_statistics_and_batch_norm_resets_those_that_are_missing() -> None:
    dropping = LoadAccount(backbone=_taken("w.pt", *STATISTICS), lite=None, new=HEAD)
    assert str(dropping).endswith("; dropped: 2 running statistics")
    missing = LoadAccount(backbone=_taken("w.pt"), lite=None, new=(*HEAD, *STATISTICS))
    assert str(missing).endswith("; new: 2 of the head (random), 2 running statistics (reset)")


def test_two_sources() -> None:
    lite = _taken("lite.pt", *LITE_STATISTICS)
    account = LoadAccount(backbone=_taken("w.pt"), lite=lite, new=(*HEAD, *LITE_STATISTICS))
    assert str(account) == (
        "1 tensors (1.5 k values) from w.pt; 1 tensors of lite residuals (1.5 k values) from lite.pt; "
        "new: 2 of the head (random), 1 running statistics (reset); "
        "dropped of the lite residuals: 1 running statistics"
    )


def test_lite_residuals_on_a_random_backbone() -> None:
    account = LoadAccount(backbone=None, lite=_taken("lite.pt"), new=("features.0.0.weight", *HEAD))
    assert str(account) == (
        "backbone random; 1 tensors of lite residuals (1.5 k values) from lite.pt; "
        "new: 2 of the head (random)"
    )


def test_lite_residuals_left_in_the_file_are_pointed_out_where_they_have_a_place() -> None:
    with_place = LoadAccount(backbone=_taken("w.pt", *LITE), lite=None, new=(*HEAD, *LITE))
    assert str(with_place).endswith(
        "; dropped: 2 of lite residuals; lite_weights=w.pt would load its lite residuals"
    )
    without = LoadAccount(backbone=_taken("w.pt", *LITE), lite=None, new=HEAD)
    assert str(without).endswith("; dropped: 2 of lite residuals")


def test_many_names_are_counted() -> None:
    account = LoadAccount(backbone=_taken("w.pt", *"abcde"), lite=None, new=HEAD)
    assert str(account).endswith("; dropped: a, b, c and 2 more")
