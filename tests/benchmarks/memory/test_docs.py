import re

import pytest

from benchmarks.memory.docs import DEVICE_TABLES, DEVICES, PAGE, TABLES, boards, device_accuracy, numbers


def test_the_page_has_a_place_for_every_table():
    places = re.findall(r"<!-- table: (.*) -->", PAGE.read_text())
    assert sorted(places) == sorted([*TABLES, "oracle"])
    assert re.findall(r"<!-- table: (.*) -->", DEVICES.read_text()) == list(DEVICE_TABLES)


def test_a_board_has_its_system_beside_the_process():
    row = {"trained": "biases", "device_peak_mib": 362.0, "smallest_peak_mib": 362.1}
    lines = boards({"rows": [row]})
    assert "| biases, folder | yes | yes | yes | yes |" in lines
    assert "| biases, `tinytl train` | no | yes | yes | yes |" in lines


def test_an_epoch_on_a_device_stands_beside_one_of_tinytl():
    machine = {"cpu": "x", "cores": 1, "threads": 1}
    row = {
        "method": "biases",
        "seed": 4,
        "dropout": 0.1,
        "device_accuracy_top1": 0.5,
        "imported_accuracy_top1": 0.51,
    }
    row |= {"tinytl_accuracy_top1": 0.52, "standard_error": 0.0199}
    result = {"rows": [row], "machine": machine, "torch": "t", "date": "2026-11-22", "command": "c"}
    assert "| biases, dropout 0.1, seed 4 | 50.0 | 51.0 | 52.0 | 2.0 |" in device_accuracy(result)


@pytest.mark.parametrize(("mib", "time", "cell"), [(60.0, 0.9, "| 75.0 |"), (80.0, 1.2, "| 75.0, missed |")])
def test_a_missed_limit_says_so(mib, time, cell):
    rows = [
        {"norm": "frozen_bn", "method": "TinyTL-B", "micro_batch_size": 8, "way": way}
        | {"measured_mib": mib, "step_ratio": time}
        for way in ("stock", "fast", "depthwise", "all")
    ]
    machine = {"cpu": "x", "cores": 1, "threads": 1}
    result = {"backbone": "mobilenet_v2", "rows": rows, "machine": machine}
    result |= {"torch": "t", "date": "2026-11-22", "command": "c"}
    line = numbers(result)[2]
    assert cell in line
    assert f"| {time:.2f}{', missed' if time > 1 else ''} |" in line
