import itertools

import pytest
from matplotlib.figure import Figure

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.names import BACKBONES
from tinytl.plots.backbone_diagram import block_text, lite_text, plot_backbone, stages
from tinytl.plots.network_shapes import network_shapes


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_rows_say_what_a_block_is() -> None:
    config = small(method="TinyTL-L+B", resolution=96)
    blocks = network_shapes(config)
    by_name = {block.name: block for block in blocks}
    assert block_text(by_name["features.0"]) == "conv 3x3, stride 2"
    assert block_text(by_name["features.2"]) == "inverted residual, expand 6, 3x3, stride 2"
    assert block_text(by_name["classifier"]) == "mean, linear  1280 → 3"
    assert lite_text(by_name["features.2"]) == "pool 2x2, conv 3x3, stride 2, 2 groups"
    texts = _texts(plot_backbone(blocks, config))
    for block in blocks:
        assert block.name in texts
        assert " x ".join(map(str, block.out_shape)) in texts
        assert f"{block.saved_kib:,.1f}" in texts
    assert "lite residual" in texts


def test_stages_are_those_of_the_paper() -> None:
    found = stages(network_shapes(small(resolution=96)))
    assert [(name, len(members)) for name, members in found] == [
        ("stem", 1),
        *zip("1234567", (1, 2, 3, 4, 3, 3, 1), strict=True),
        ("last", 1),
        ("head", 1),
    ]


@pytest.mark.parametrize(
    ("method", "backbone"), sampled(itertools.product(("TinyTL-L", "FT-Norm+Last"), BACKBONES), 7)
)
def test_no_text_leaves_the_picture_or_covers_another(backbone: str, method: str) -> None:
    config = small(backbone=backbone, method=method, resolution=224, engine="stock", norm="group_norm")
    figure = plot_backbone(network_shapes(config), config)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    assert ("lite residual" in _texts(figure)) == (method == "TinyTL-L")


def test_nothing_kept_is_drawn_too() -> None:
    config = small(method="FT-Last")
    figure = plot_backbone(network_shapes(config), config)
    assert _texts(figure).count("0.0") == 19
