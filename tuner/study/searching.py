"""The search of a study: what is proposed, what is checked before it starts, and who may stop early."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from tinytl.errors import ConfigError
from tuner.config import REDUCTION_FACTOR
from tuner.prepared import PreparedStudy
from tuner.record.trials import merged_trials
from tuner.record.writer import StudyRecords
from tuner.stopping import Stopping
from tuner.study.starting_points import baselines
from tuner.trial_config import trial_config

if TYPE_CHECKING:
    from tuner.search.scheduler import Rungs
    from tuner.search.searcher import MemoryAwareSearch, Observer

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FIRST = 2
"""The number of configurations with memory that is predicted while Ray and MLflow start."""


def search_of(
    prepared: PreparedStudy,
    records: StudyRecords,
    remaining: int,
    stopping: Stopping,
    observers: Sequence["Observer"],
    held_mib: float,
) -> "MemoryAwareSearch":
    """Returns the search of `remaining` trials more, that tells `observers` of each.

    `held_mib`: what a worker holds of tensors beside what its process needs.
    """
    from tinytl.selection.choose import chosen
    from tuner.search.candidates import Candidates
    from tuner.search.sampling import Proposals
    from tuner.search.searcher import MemoryAwareSearch

    config = prepared.config
    proposals = Proposals(
        sampler=config.sampler,
        # A resumed study draws other numbers than at its start.
        seed=config.seed + len(records.trials(*FINISHED)),
        space=prepared.space,
        searches_memory=prepared.searches_memory,
        budget_mib=config.memory_budget_mib,
    )
    candidates = Candidates(
        records=records,
        proposals=proposals,
        space=prepared.space,
        base=prepared.base,
        study_folder=prepared.folder,
        budget_mib=config.memory_budget_mib,
        max_slowdown=config.max_slowdown,
        held_mib=held_mib,
        stopping=stopping,
        settle=lambda config: chosen(config, prepared.data, prepared.weights[config.backbone]),
    )
    return MemoryAwareSearch(candidates=candidates, remaining=remaining, observers=observers)


def rungs_of(prepared: PreparedStudy, records: StudyRecords) -> "Rungs | None":
    """Returns the rule that stops trials early, which knows those of earlier sessions; None without one."""
    from tuner.search.scheduler import Rungs

    config = prepared.config
    if config.scheduler == "none":
        return None
    return Rungs(
        rule=config.scheduler,
        epochs=config.rung_epochs,
        reduction_factor=REDUCTION_FACTOR,
        past=merged_trials(records.trials()),
    )


def predict_first(prepared: PreparedStudy) -> None:
    """Predicts the memory of what is tried first, while Ray and MLflow start; predictions are cached."""
    from tinytl.memory.curve import memory_curve
    from tinytl.memory.predict import with_scheme

    for point in [*prepared.starting_points, *baselines(prepared.space)][:FIRST]:
        with suppress(ConfigError):
            config = trial_config(prepared.base, dict(prepared.space.fixed) | dict(point.params))
            memory_curve(with_scheme(config))
