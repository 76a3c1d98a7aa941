import torch

from tinytl.memory.measure import MIB
from tinytl.memory.storage_tracker import StorageTracker


def test_tracker_follows_storages() -> None:
    tracker = StorageTracker(on_cpu=False)
    kept = torch.zeros(100)  # 400 bytes: a block of 512, as on a GPU
    tracker.add_existing("parameters", [kept, kept[:3]])
    with tracker.modules, tracker:
        large = torch.zeros(1000)  # 4096 with its rounding
        view = large[:10]
        del large
        late = torch.zeros(128)  # 512
        del view
        small_one = torch.zeros(1)
    prediction = tracker.prediction()
    assert prediction.peak_mib * MIB == 512 + 4096 + 512
    assert {part: mib * MIB for part, mib in prediction.parts_mib.items() if mib} == {
        "parameters": 512,
        "temporary": 4608,
    }
    assert prediction.peak_at == "input or loss forward"
    assert late.numel() + small_one.numel() == 129
