import pytest
from matplotlib.patches import Rectangle

from tests.support.cases import small
from tinytl.errors import ConfigError
from tinytl.networks.update_scheme import layers_of
from tinytl.plots.scheme_diagram import plot_scheme


def test_each_convolution_that_trains_is_filled_by_its_share_and_has_its_mib() -> None:
    config = small(method="Sparse", update_blocks=2, channel_ratio=0.5, batch_size=4, bias_blocks=3)
    (axes,) = plot_scheme(config).axes
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    filled = {(p.get_x(), p.get_y()): p.get_width() for p in patches if p.get_facecolor()[3] == 0.45}
    assert filled == {(15, 0): 0.5, (16, 0): 0.5}  # blocks 16 and 17, pw1
    layer = next(layer for layer in layers_of(config) if layer.name == "17.pw1")
    mib = (layer.bytes_of(80, config) + 3 * layer.pixels * 4 * 80) / 2**20
    assert [text.get_text() for text in axes.texts] == 2 * [f"{mib:.2f}".lstrip("0")]
    biases = [patch.get_x() for patch in patches if patch.get_y() == 3 and patch.get_facecolor()[3] == 0.5]
    assert biases[-3:] == [14, 15, 16]
    assert axes.get_title(loc="left").startswith("What Sparse trains on mobilenet_v2, select last, 32 px")


def test_what_images_have_to_choose_is_no_picture_yet() -> None:
    with pytest.raises(ConfigError, match="select=fisher reads your images"):
        plot_scheme(small(method="Sparse", select="fisher"))
