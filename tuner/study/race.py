"""What cannot be told apart from the best is trained again with other seeds, until it can: a race.

In each round every contender trains with one more seed, those with the fewest seeds first. A trial that is
surely worse than the one with the best mean drops out. The race ends with one contender left, with
`MOST_SEEDS`, or when its share of the study's epochs is spent. Source: Maron and Moore, Hoeffding Races, NIPS
1993; rounds of all contenders: Birattari et al., GECCO 2002 (F-Race). Imports torch and ray only to train.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tuner.findings.sureness import Sureness
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.study.confirm import train_with_seeds, trial_configs

if TYPE_CHECKING:
    from tuner.cluster.resources import TrialResources
    from tuner.prepared import PreparedStudy
    from tuner.terminal.lines import TrialLines

MOST_SEEDS = 8
"""Other seeds of one trial."""


def race(
    prepared: "PreparedStudy",
    read: Callable[[], StudyReading],
    resources: "TrialResources",
    lines: "TrialLines",
    stopped: Callable[[], bool],
) -> None:
    """Trains contenders again on the Ray that is running, for `--race-share` of the study's epochs.

    What was trained before a kill is not trained again, and counts. `read` reads the study.

    Raises:
        ConfigError: for a `confirm.json` or `config.yaml` that is damaged, or that cannot be written.
    """
    before: dict[str, int] = {}
    while not stopped():
        study = read()
        contenders = next_round(study, prepared.config.race_share)
        now = {trial.name: seeds_of(trial) for trial in contenders}
        if not contenders or now == before:  # processes died in all runs of a round: not again
            return
        before = now
        lines.phase(f"training {len(contenders)} again that are alike")
        configs = trial_configs(prepared.folder, contenders)
        seeds = now[contenders[0].name] + 1
        train_with_seeds(prepared, contenders, configs, seeds, resources, lines.confirmed, stopped)


def next_round(study: StudyReading, share: float) -> list[Trial]:
    """Returns the trials that train with one more seed, all after as many seeds; none if the race is over."""
    runs = _runs_left(study, share)
    if runs < 1:
        return []
    contenders = Sureness(study).contenders
    if len(contenders) < 2:
        return []
    racing = [trial for trial in contenders if seeds_of(trial)]
    # Of many, as many begin as can train twice; the others stay out, or nobody would get a second seed.
    contenders = racing if len(racing) > 1 else contenders[: max(2, runs // 2)]
    fewest = min(map(seeds_of, contenders))
    round_ = [trial for trial in contenders if seeds_of(trial) == fewest]
    return round_ if fewest < MOST_SEEDS and len(round_) <= runs else []


def seeds_of(trial: Trial) -> int:
    """Returns with how many other seeds a trial was trained, or failed."""
    again = trial.confirmed
    return 0 if again is None else len(again.again) + len(again.failures)


def _runs_left(study: StudyReading, share: float) -> int:
    """Returns how many whole runs are left of the share of the epochs that the study has trained."""
    epochs = int(study.attributes.get(schema.EPOCHS, 0))
    if not epochs:
        return 0
    trained = sum(epochs if t.state == "complete" else t.stopped_at or 0 for t in study.trials)
    return int(share * trained / epochs) - sum(map(seeds_of, study.trials))
