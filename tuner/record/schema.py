"""The names of a study's record: user attributes of studies and trials in Optuna's storage, and their states.

An older study was written with these names, so a changed name loses what it holds. Whoever writes or reads
the record takes the names from here.
"""

# Of a study.
REQUESTED = "requested_trials"
"""`--trials`."""
STUDY_ID = "study_id"
"""What no other study has, and the tag of its runs in MLflow; older studies have none."""
SESSIONS = "sessions"
"""Every driver of the study, oldest first (`sessions.py`)."""
DRIVER = "driver"
"""Host, process and last sign of life of the driver that runs the study (`claim.py`)."""

# Of a trial.
NAME = "name"
"""Name of the trial and of its folder. An attempt that goes on has the name of the one that was cut off."""
SOURCE = "source"
"""Where a configuration came from that was enqueued before the search began."""
PEAK_MEMORY_MIB = "peak_memory_mib"
"""Predicted peak memory of a training step, in MiB."""
MEASURED_PEAK_MIB = "measured_peak_mib"
"""Peak memory of a training step as the allocator counted it, in MiB."""
MEASURED_NEED_MIB = "measured_need_mib"
"""What a trial held, in MiB, when it ran out of memory."""
EPOCH_TIME_S = "epoch_time_s"
"""Seconds per epoch."""
INFEASIBLE = "infeasible"
"""Why a trial does not fit: over the budget, or out of memory. It counts as no trial."""
FAILURE = "failure"
"""Why a trial failed."""
DROPPED = "dropped"
"""Why a configuration that was enqueued never ran."""
INTERRUPTED = "interrupted"
"""True for a trial that was cut off; it goes on as a later trial of the same name."""
AGAIN = "again"
"""Name of the trial that was cut off and that this one goes on for."""
RUNGS = "rungs"
"""Accuracy at each rung that the trial passed: {"1": 0.62, "3": 0.71}."""
PRUNED_AT = "pruned_at"
"""The rung at which the trial was stopped, in epochs."""
CONSTRAINT = "memory_budget_mib"
"""Name of Optuna's constraint: predicted peak minus budget, feasible at 0 or below."""

STATES = ("complete", "pruned", "failed", "infeasible", "running")
"""States that a study counts; `waiting` and `interrupted` attempts count as no trial."""
ENDED = ("complete", "pruned", "failed")
"""States of the trials that `--trials` counts."""
