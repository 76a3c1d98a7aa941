import dataclasses

import torch

from tests.support.cases import small, tinted_images
from tinytl.build import build_model
from tinytl.features.compute import features_before_head
from tinytl.training.step import InputNormalizer

CPU = torch.device("cpu")


def test_the_classifier_gets_these_rows_and_stays() -> None:
    config = small(method="FT-Last", norm="group_norm")
    built = build_model(config)
    net, known = built.net.eval(), built.normalization
    normalize = InputNormalizer(dataclasses.replace(config, input_mean=known.mean, input_std=known.std), CPU)
    images, advanced = tinted_images(10, 0), list[int]()
    head = net.get_submodule("classifier")
    features, labels = features_before_head(
        net, normalize, images, resolution=32, batch_size=4, device=CPU, workers=0, advance=advanced.append
    )
    assert net.get_submodule("classifier") is head and advanced == [4, 4, 2]
    assert labels.tolist() == images.labels.tolist() and not features.requires_grad
    seen: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    pictures = torch.from_numpy(images.images).permute(0, 3, 1, 2)
    whole = torch.nn.functional.interpolate(pictures, (32, 32), mode="bilinear", antialias=True)
    net(normalize(whole))
    torch.testing.assert_close(features, seen[0], rtol=1e-4, atol=1e-5)
