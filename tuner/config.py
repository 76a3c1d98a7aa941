"""What one study is, and the command line that makes it. Imports nothing heavy."""

import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args, get_origin, get_type_hints

from tinytl.config.flags import field_docs
from tinytl.config.names import METRICS
from tinytl.config.one_line_parser import OneLineParser
from tinytl.errors import ConfigError, choose
from tinytl.passwords import set_apart
from tuner.bucket.address import checked_runs_dir, is_bucket
from tuner.bucket.copies import at_hand
from tuner.ports import check_port

SAMPLERS = ("tpe", "nsga2", "gp", "random", "qmc")
REDUCTION_FACTOR = 3
"""Successive halving keeps one trial in this many, and each rung is this many times the one before."""
SCHEDULERS = ("none", "asha", "pareto")
RESERVED_NAMES = ("mlartifacts", "mlflow.db", "optuna.journal")
"""Files and folders in RUNS_DIR that are not a study's; so are names that begin so (`mlflow.db-wal`)."""
LONGEST_NAME = 200
"""Letters of a study's name: its trials, folders and files have longer ones, and a file system takes 255."""
NO_TRACKING = "none"
"""As `--tracking-uri`: nothing goes to MLflow."""
WITHOUT_TRACKING = f"start it, or go without MLflow by --tracking-uri {NO_TRACKING}"
PROGRAM = "launch.py"
"""The command that starts a study, as its help and its errors name it."""
STUDY_FILE = "study.json"
"""In the study's folder: the settings that made it. They resume the study and find its storage."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """One search, as given on the command line.

    Raises:
        ConfigError: for an unknown name or a value outside its range.
    """

    space: str = "joint"
    """Search space: the name of a file in search_spaces/, or the path of your own .yaml."""
    dataset: str = "digits"
    """Data set: digits (bundled), imagefolder (your images, see --data-dir), or a published one: cifar10,
    cifar100, cub200, cars, food101, imagenet."""
    data_dir: str | None = None
    """Folder of the data set. imagefolder: train/CLASS/*, and val/, test/ if there are any; or CLASS/*. A
    published set: its archives as downloaded, or their contents."""
    download: bool = False
    """Download the data set's archives into --data-dir first, if they are not there."""
    skip_broken: bool = False
    """Leave out images that do not decode, and count them. Default: such an image is a mistake, and all are
    named."""
    exclude: str | None = None
    """File with the pictures to leave out: a path per line, relative to the data folder, or a table with a
    column file, such as `tinytl check --csv` writes. Splits stay as they are without it. Default: none."""
    min_per_class: int = 0
    """Leave out classes with fewer pictures than this, all splits together, and name them. 0: none is
    left out."""
    backbone: str = "efficientnet_lite0"
    """Network: efficientnet_lite0, mobilenet_v2 or proxylessnas_mobile."""
    weights: str = "imagenet"
    """Initial weights of the backbone: imagenet (imagenet_v1, imagenet_v2: torchvision's two for
    mobilenet_v2), none (random), or a file or URL of tensors."""
    lite_weights: str | None = None
    """File or URL of pretrained lite residuals of the space's geometry. Default: they start at random."""
    input_mean: str | None = None
    """Mean of each input channel in [0, 1], as the weights expect it: one number, or R,G,B. Default: that of
    the weights."""
    input_std: str | None = None
    """Standard deviation of each input channel, as the weights expect it. Default: that of the weights."""
    trials: int = 12
    """Configurations to train. Those over the memory budget never start and are not counted."""
    epochs: int = 3
    """Epochs of each trial."""
    name: str | None = None
    """Name of the study. Default: SPACE-YYYYMMDD-HHMMSS."""
    runs_dir: str = "runs"
    """Folder of all studies: mlflow.db, optuna.journal and a folder for each. Or a bucket: s3://BUCKET/PREFIX,
    gs://BUCKET/PREFIX; keys are those of the environment."""
    workers: int | None = None
    """Trials at a time. Default: one per CPU core, or one per GPU if there are any."""
    metric: str = "accuracy_top1"
    """What is searched for beside memory, on the validation images: accuracy_top1, balanced_accuracy (the
    mean recall of the classes) or macro_f1 (their mean F1). It orders rungs, front and best."""
    memory_budget_mib: float | None = None
    """Peak memory of a training step in MiB (2**20 bytes) that no trial may exceed. Default: no limit."""
    max_slowdown: float = 2.0
    """How much slower than its fastest plan a configuration may train on the device: its memory is the least
    of its plans (micro-batches, recomputation) within that. 1: the fastest plan's; inf: the least of all."""
    sampler: str = "tpe"
    """Optuna's sampler: tpe, nsga2, gp, random or qmc."""
    scheduler: str = "none"
    """Which trials stop early, at the rungs: none, asha (all but the most accurate third) or pareto (those
    that another trial beats in both accuracy and memory)."""
    rungs: str | None = None
    """Epochs after which trials are judged, such as 1,3. Default: a third of --epochs, a ninth, and so on."""
    time_budget: float | None = None
    """Seconds after which the study ends. Running trials save at the end of their epoch, and --resume
    continues them. Default: no limit."""
    max_failures: int = 1
    """How often a trial resumes from its last checkpoint after its process died; then it counts as failed."""
    gpus_per_trial: float | None = None
    """Share of a GPU that each trial gets, such as 0.25. Default: from the largest predicted memory."""
    pack: bool = False
    """Give each trial the share of a GPU that its own memory needs; each share needs a process of its own."""
    warm_start: str | None = None
    """A study under --runs-dir: the configurations of its front are tried first."""
    from_config: str | None = None
    """YAML file of configurations that are tried first: one, or a list; a trial's config.yaml is one."""
    confirm: int = 0
    """Number of other seeds with which the front's trials, and those that cannot be told apart from the best,
    are trained again before one is named best. Default: none, but see --race-share."""
    race_share: float = 0.2
    """If trials cannot be told apart from the best, they are trained again with other seeds until they can,
    for at most this share of the epochs that the study has trained; 0: never."""
    settings: tuple[str, ...] = ()
    """KEY=VALUE, repeatable: fixes a field of TrainConfig or a parameter of the space. Several values,
    separated by commas, leave the parameter these choices."""
    address: str | None = None
    """A running Ray cluster to use, such as 127.0.0.1:6379. Default: Ray is started here, for this study."""
    submit: str | None = None
    """Dashboard of a Ray cluster, such as http://127.0.0.1:8265. The study runs there as a job, and its
    log is shown here; Ctrl-C leaves it running. Default: it runs here."""
    tracking_uri: str | None = None
    """MLflow server or database; none: nothing goes to MLflow (`python -m tuner sync` adds the study later).
    A server's user and password: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD. Default:
    RUNS_DIR/mlflow.db (SQLite)."""
    experiment: str | None = None
    """MLflow experiment of the study, fixed once it starts. Default: the data set's name, or its folder's."""
    system_metrics: bool = False
    """Record CPU, memory, disk and network in each epoch of each trial, for MLflow's page of system metrics;
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true does so, too. Needs psutil."""
    tensorboard: bool = False
    """Write TensorBoard's event files, too, to RUNS_DIR/NAME/TRIAL/tensorboard."""
    storage: str | None = None
    """Optuna storage as a database URL. Default: the file RUNS_DIR/optuna.journal."""
    seed: int = 0
    """Seed of the sampler and of every trial; with --workers 1 the same seed gives the same study."""
    resume: bool = False
    """Resume the study --name, until it has --trials trials."""
    dry_run: bool = False
    """Check everything, show the space and its first configurations with their memory, and start nothing."""
    dashboard: bool = False
    """Start Ray's dashboard and print its address (http://127.0.0.1:8265)."""
    dashboard_port: int | None = None
    """Port of the dashboard. Default: 8265, or the next free one."""
    verbose: bool = False
    """Show what Ray (its workers, too), Optuna and MLflow log, and plain lines in place of the live view."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", choose("metric", self.metric, tuple(METRICS)))
        object.__setattr__(self, "sampler", choose("sampler", self.sampler, SAMPLERS))
        object.__setattr__(self, "scheduler", choose("scheduler", self.scheduler, SCHEDULERS))
        object.__setattr__(self, "runs_dir", checked_runs_dir(self.runs_dir))
        for name in ("weights", "lite_weights"):
            value = getattr(self, name)
            if isinstance(value, str):  # TrainConfig refuses what is no text
                object.__setattr__(self, name, set_apart(value))
        for name, low in (
            ("trials", 1),
            ("epochs", 1),
            ("workers", 1),
            ("max_failures", 0),
            ("seed", 0),
            ("confirm", 0),
            ("min_per_class", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least {low}")
        for name in ("memory_budget_mib", "time_budget", "gpus_per_trial"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"--{name.replace('_', '-')} {value:g}: must be a number above 0")
        if not 0 <= self.race_share < math.inf:
            raise ConfigError(f"--race-share {self.race_share:g}: must be a number, 0 or above")
        if not self.max_slowdown >= 1:
            raise ConfigError(
                f"--max-slowdown {self.max_slowdown:g}: must be 1 (the time of the fastest plan) or more"
            )
        if self.name is not None:
            check_study_name(self.name)
        if self.warm_start is not None:
            check_study_name(self.warm_start, "--warm-start")
        if self.pack and self.gpus_per_trial is not None:
            raise ConfigError("--pack gives each trial a share of its own: leave out --gpus-per-trial")
        if self.scheduler == "none" and self.rungs is not None:
            raise ConfigError(f"--rungs {self.rungs} without --scheduler asha or pareto: nothing is stopped")
        if self.scheduler != "none":
            self.rung_epochs  # noqa: B018 - a plan with a mistake raises now
        if self.dashboard_port is not None:
            if not self.dashboard:
                raise ConfigError(f"--dashboard-port {self.dashboard_port}: add --dashboard, or leave it out")
            if self.address is not None:
                raise ConfigError(f"--dashboard-port {self.dashboard_port}: a running cluster has its own")
            check_port(self.dashboard_port, "--dashboard-port")
        if self.submit is not None and self.address is not None:
            raise ConfigError("--submit runs the study on the cluster it is sent to: leave out --address")
        if self.resume and self.name is None:
            raise ConfigError("--resume needs --name, the study to resume")

    @property
    def rung_epochs(self) -> tuple[int, ...]:
        """The epochs after which trials are judged, rising; the last epoch is not one of them.

        Raises:
            ConfigError: for a plan with no rung before the last epoch, or no plan at all.
        """
        if self.rungs is None:
            rungs = set()
            epochs = self.epochs
            while (epochs := epochs // REDUCTION_FACTOR) >= 1:
                rungs.add(epochs)
            if not rungs and self.epochs > 1:
                rungs.add(1)
        else:
            texts = [text.strip() for text in self.rungs.split(",")]
            if not all(re.fullmatch("[0-9]{1,9}", text) and int(text) >= 1 for text in texts):
                raise ConfigError(f"--rungs {self.rungs}: write epochs, such as 1,3")
            rungs = {int(text) for text in texts}
        if not any(rung < self.epochs for rung in rungs):
            raise ConfigError(
                f"--scheduler {self.scheduler}: no rung lies before the last of --epochs {self.epochs}: "
                "train longer, give earlier --rungs, or --scheduler none"
            )
        return tuple(sorted(rung for rung in rungs if rung < self.epochs))

    @property
    def tracks(self) -> bool:
        """Whether the study is recorded in MLflow."""
        return self.tracking_uri != NO_TRACKING

    @property
    def resolved_tracking_uri(self) -> str:
        """Where MLflow records."""
        return self.tracking_uri or f"sqlite:///{(Path(self.runs_dir) / 'mlflow.db').resolve()}"


OF_ONE_CALL = {
    "resume",
    "dry_run",
    "name",
    "time_budget",
    "warm_start",
    "from_config",
    "dashboard",
    "dashboard_port",
    "verbose",
    "submit",
}
"""Flags that a resumed study does not take from the call before."""
BEFORE_THE_FLAG = {"max_slowdown": 1.0}
"""What a study begun before a flag existed does: a trial has the memory of the plan it trains with."""
_METAVARS = {
    "rungs": "EPOCHS",
    "time_budget": "SECONDS",
    "gpus_per_trial": "SHARE",
    "max_slowdown": "FACTOR",
    "exclude": "FILE",
    "min_per_class": "N",
    "warm_start": "STUDY",
    "from_config": "FILE",
    "confirm": "K",
    "race_share": "X",
    "submit": "URL",
}
_TYPES = {"int": int, "int | None": int, "float": float, "float | None": float, "str": str, "str | None": str}


def check_study_name(name: str, flag: str = "--name") -> None:
    """Raises ConfigError for a name that cannot be a folder's and a label's, or is taken by a file."""
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{flag}: a name of {len(name)} letters is too long: at most {LONGEST_NAME}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.startswith(RESERVED_NAMES):
        raise ConfigError(
            f"{flag} {name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            f"and no name that begins with {', '.join(RESERVED_NAMES)}"
        )


def read_study_file(name: str, runs_dir: str) -> dict[str, Any]:
    """Returns what `study.json` of a study holds, or nothing if there is none.

    Raises:
        ConfigError: for a file that is damaged.
    """
    path = Path(runs_dir) / name / STUDY_FILE
    try:
        found = dict(json.loads(path.read_text())) if path.is_file() else {}
    except (ValueError, TypeError, RecursionError):
        raise ConfigError(f"{path} is damaged: restore it from a copy, or remove it") from None
    for key, kind in (get_type_hints(StudyConfig) | {"command": tuple[str, ...]}).items():
        if key == "max_slowdown" and found.get(key) == math.inf:
            continue
        if key in found and not _is_of_kind(found[key], kind):
            what = f"{key} is {shorten(repr(found[key]), 40)}"
            raise ConfigError(f"{path} is damaged ({what}): restore it from a copy, or remove it")
    return found


def _is_of_kind(value: object, kind: Any) -> bool:
    """Whether a value that JSON gives may stand in a field of the type `kind`."""
    if get_args(kind) and get_origin(kind) is not tuple:  # X | None
        return any(_is_of_kind(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < sys.float_info.max
    if kind is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def build_parser(program: str = PROGRAM, kind: type[OneLineParser] = OneLineParser) -> OneLineParser:
    """Returns the parser of `launch.py`: a flag for each field of StudyConfig, and --list-spaces."""
    parser = kind(
        prog=program,
        description="Search how to fine-tune a mobile network: accuracy against the memory of training.",
    )
    docs = field_docs(StudyConfig)
    for field in dataclasses.fields(StudyConfig):
        flag = "--set" if field.name == "settings" else "--" + field.name.replace("_", "-")
        help_text = docs[field.name].replace("%", "%%")
        if field.type is bool:
            short = ["-v"] if field.name == "verbose" else []
            parser.add_argument(*short, flag, dest=field.name, action="store_true", help=help_text)
        elif field.name == "settings":
            parser.add_argument(
                flag, dest=field.name, action="append", default=[], metavar="KEY=VALUE", help=help_text
            )
        else:
            shown = "" if field.default is None else f" (default: {field.default})"
            parser.add_argument(
                flag,
                dest=field.name,
                default=field.default,
                type=_TYPES[str(field.type) if not isinstance(field.type, type) else field.type.__name__],
                metavar=_METAVARS.get(field.name, field.name.rpartition("_")[2].upper()),
                help=help_text + shown,
            )
    parser.add_argument("--list-spaces", action="store_true", help="list the search spaces and stop")
    return parser


def parse_study(
    argv: Sequence[str] | None, program: str = PROGRAM, kind: type[OneLineParser] = OneLineParser
) -> tuple[StudyConfig, bool]:
    """Returns the study of a command line, and whether only the spaces are to be listed.

    With `--resume`, flags that are not given are those of the study's own command line. `kind`: of the
    parser, which decides how a mistake is told.

    Raises:
        ConfigError: for a value outside its range.
        SystemExit: for a command line that does not parse (2), or --help (0).
    """
    parser = build_parser(program, kind)
    values = vars(parser.parse_args(argv))
    if values["resume"] and values["name"]:
        # A study resumes with the flags that began it; those given now replace them.
        known = {field.name for field in dataclasses.fields(StudyConfig)} - OF_ONE_CALL
        saved = {} if values["submit"] and is_bucket(values["runs_dir"]) else _saved(values)
        if saved:
            saved = BEFORE_THE_FLAG | saved
        if values["submit"]:
            saved.pop("address", None)  # of the job before
        parser.set_defaults(**{key: value for key, value in saved.items() if key in known})
        values = vars(parser.parse_args(argv))
    list_only = values.pop("list_spaces")
    values["settings"] = tuple(values["settings"])
    return StudyConfig(**values), list_only


def _saved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags that a study has in its `study.json`, as they are meant on this machine."""
    check_study_name(values["name"])
    runs_dir = at_hand(values["runs_dir"], values["name"])
    saved = read_study_file(values["name"], runs_dir)
    if is_bucket(str(saved.get("space"))):
        saved["space"] = str(Path(runs_dir) / values["name"] / str(saved["space"]).rpartition("/")[2])
    return saved
