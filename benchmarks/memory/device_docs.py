"""The tables of docs/devices.md: processes on a board, accuracy of what trained there, and 8 bits."""

from collections.abc import Callable
from operator import itemgetter

from benchmarks.shared.markdown import Result, cells, source, table

BOARDS = {"512 MB": 512, "1 GB": 1024, "2 GB": 2048, "4 GB": 4096}
"""Memory in MiB; makers count a MB as 2**20 bytes."""
FOR_THE_SYSTEM_MIB = 150
"""What a board's system and its services are taken to need."""


def device_process(result: Result) -> list[str]:
    """The process of each program, and its processor time per picture."""
    head = ["trained", "folder, MiB", "`tinytl train`, `smallest`, MiB", "`fast`, MiB"]
    head += ["folder, s a picture", "`fast`, s a picture", "folder / `fast`"]
    lines = [
        cells(
            row["trained"],
            f"**{row['device_peak_mib']:.0f}**",
            f"{row['smallest_peak_mib']:.0f}",
            f"{row['fast_peak_mib']:.0f}",
            f"{row['device_s_per_picture']:.3f}",
            f"{row['fast_s_per_picture']:.3f}",
            f"{row['time_ratio']:.2f}",
        )
        for row in result["rows"]
    ]
    return table(head, lines) + source(result)


def boards(result: Result) -> list[str]:
    """Which program of which configuration fits which board."""
    lines = []
    for row in result["rows"]:
        for program, kind in (("folder", "device"), ("`tinytl train`", "smallest")):
            mib = row[f"{kind}_peak_mib"]
            fits = ("yes" if mib + FOR_THE_SYSTEM_MIB <= size else "no" for size in BOARDS.values())
            lines.append(cells(f"{row['trained']}, {program}", *fits))
    note = f"*The process below and {FOR_THE_SYSTEM_MIB} MiB for the system, against the board's memory.*"
    return [*table(["", *BOARDS], lines), "", note]


def device_accuracy(result: Result) -> list[str]:
    """Top-1 after an epoch on a device, and after one of `tinytl train`."""
    lines = [
        cells(
            f"{row['method']}, dropout {row['dropout']:g}, seed {row['seed']}",
            *(f"{100 * row[f'{way}_accuracy_top1']:.1f}" for way in ("device", "imported", "tinytl")),
            f"{100 * row['standard_error']:.1f}",
        )
        for row in sorted(result["rows"], key=itemgetter("method", "dropout", "seed"))
    ]
    head = ["trained", "folder", "folder, `tinytl evaluate`", "`tinytl train`", "one standard error"]
    return [*table(head, lines), *source(result)]


def int8_inference(result: Result) -> list[str]:
    """Exported networks in floats and in eight bits."""
    lines = [
        cells(
            f"{row['trained']}, {row['resolution']} px",
            row["epoch"],
            f"{row['float32_mib']:.1f}",
            f"**{row['int8_mib']:.1f}**",
            f"{row['float32_accuracy_top1']:.3f} ± {row['float32_standard_error']:.3f}",
            f"{row['int8_accuracy_top1']:.3f} ± {row['int8_standard_error']:.3f}",
            f"{row['drop']:+.3f} ± {row['drop_standard_error']:.3f}",
            f"{row['same_class']:.1%}",
            f"{row['time_ratio']:.2f}",
        )
        for row in result["rows"]
    ]
    head = ["trained", "epoch", "float, MiB", "int8, MiB", "float, accuracy", "int8, accuracy", "lost"]
    n_images = {row["val_images"] for row in result["rows"]}
    note = (
        f"*{', '.join(f'{n:,}' for n in sorted(n_images))} validation images; ± is one standard error, "
        "that of a loss over the same images. Time: ratio of the medians of one picture's processor time, "
        "both in turn on one thread.*"
    )
    return [*table([*head, "same class", "time, int8 / float"], lines), "", note, *source(result)]


def int8_choices(result: Result) -> list[str]:
    """Ways to bring a network to eight bits."""
    lines = [
        cells(row["way"], f"{row['accuracy_top1']:.3f}", f"{row['same_class']:.1%}") for row in result["rows"]
    ]
    return table([result["trained"], "accuracy", "same class as in floats"], lines) + source(result)


def torch_process(result: Result) -> list[str]:
    """What PyTorch's processes need, by build of PyTorch."""
    lines = [cells(row["program"], row["torch"], f"**{row['peak_mib']:.0f}**") for row in result["rows"]]
    return table(["program", "torch", "MiB"], lines) + source(result)


DEVICE_TABLES: dict[str, tuple[str, Callable[[Result], list[str]]]] = {
    "torch process": ("torch_process", torch_process),
    "boards": ("device_process", boards),
    "device process": ("device_process", device_process),
    "device accuracy": ("transfer_device_accuracy", device_accuracy),
    "int8 inference": ("int8_inference", int8_inference),
    "int8 choices": ("int8_choices", int8_choices),
}
"""The tables of docs/devices.md, and the result file of each."""
