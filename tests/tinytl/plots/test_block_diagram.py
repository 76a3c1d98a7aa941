from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tests.support.cases import small
from tinytl.errors import ConfigError
from tinytl.plots.block_diagram import choose_block, plot_block
from tinytl.plots.network_shapes import network_shapes
from tinytl.plots.style import save_figure

LITE = small(method="TinyTL-L+B", resolution=96)


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_every_layer_and_shape_is_there(tmp_path: Path) -> None:
    block = choose_block(network_shapes(LITE), None)
    assert block.name == "features.3"
    figure = plot_block(block, LITE)
    texts = _texts(figure)
    assert texts[0] == "Lite residual block, features.3"
    assert texts[1] == "TinyTL-L+B on mobilenet_v2, frozen_bn, 96 px"
    for layer in block.main + block.lite:
        assert layer.text in texts
        assert " x ".join(map(str, layer.out_shape)) in texts
    assert "final_bn: 48 parameters, all but the biases train" in texts
    assert {"shortcut", "main branch", "lite residual", "input  24 x 24 x 24"} <= set(texts)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "weights train",
        "biases train",
        "frozen",
        "no parameters",
    ]
    hatches = [patch.get_hatch() for patch in legend.get_patches()]
    assert hatches[0] != hatches[1] and all(hatches[:2]), "told apart without colour"
    save_figure(figure, tmp_path / "block.svg")
    assert ">conv 3x3, depthwise</text>" in (tmp_path / "block.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["TinyTL-L", "FT-Full"])
def test_no_text_leaves_the_picture_or_covers_another(method: str) -> None:
    config = small(method=method, backbone="mobilenet_v2", resolution=224)
    shapes = network_shapes(config)
    for name in (None, "features.2", "features.18", "classifier"):
        _check_texts(plot_block(choose_block(shapes, name), config))


def _check_texts(figure: Figure) -> None:
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_which_block() -> None:
    blocks = network_shapes(small(method="FT-Last"))
    assert choose_block(blocks, None).name == "features.3"
    assert choose_block(blocks, "features.17").name == "features.17"
    with pytest.raises(ConfigError, match=r"unknown block 'features.99': did you mean"):
        choose_block(blocks, "features.99")
