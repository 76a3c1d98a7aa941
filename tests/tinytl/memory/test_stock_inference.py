import dataclasses

from tests.support.cases import small
from tinytl.build import build_model
from tinytl.memory.measure import MIB
from tinytl.memory.predict import predict_memory
from tinytl.memory.stock_inference import stock_inference_peak_mib


def test_stock_inference() -> None:
    config = small(method="FT-Full", norm="group_norm", micro_batch_size=1, resolution=64)
    inference = stock_inference_peak_mib(config)
    assert stock_inference_peak_mib(dataclasses.replace(config, weight_standardization=True)) == inference
    parameters = 4 * sum(p.numel() for p in build_model(config).net.parameters()) / MIB
    assert parameters < inference < predict_memory(config).peak_mib
    # It is the whole batch's, and that of the plain network, whatever is trained and how.
    assert inference == stock_inference_peak_mib(small(method="TinyTL-L", resolution=64))
    assert inference < stock_inference_peak_mib(dataclasses.replace(config, batch_size=8))
