import re

from benchmarks.memory.device_docs import DEVICE_TABLES, boards, device_accuracy
from benchmarks.memory.docs import DEVICES


def test_the_page_has_a_place_for_every_table():
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
