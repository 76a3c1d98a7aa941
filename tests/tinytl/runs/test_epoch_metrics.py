from tinytl.runs.epoch_metrics import EpochMetrics


def test_flat_metrics() -> None:
    fields = {"epoch": 1, "loss": 2.0, "train_accuracy_top1": 0.5, "accuracy_top1": 0.25, "val_loss": 3.0}
    fields |= {"balanced_accuracy": 0.3, "macro_f1": 0.2, "standard_error": 0.1}
    fields |= {"epoch_time_s": 4.0, "images_per_s": 5.0, "measured_peak_mib": None, "features_read": 0.25}
    fields |= {"process_peak_mib": 600.0}
    metrics = EpochMetrics(**fields, lr={"classifier": 0.1, "bias": 0.2})  # type: ignore[arg-type]
    assert metrics.flat() == fields | {"lr.classifier": 0.1, "lr.bias": 0.2}
