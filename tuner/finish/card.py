"""The card of a finished model, `README.md` in its folder: for a reader who knows nothing of the study."""

from collections.abc import Iterator

from tinytl.config.flat import config_from_flat
from tinytl.config.names import METRICS
from tinytl.config.plan import describe
from tinytl.config.train_config import TrainConfig
from tinytl.config.weights_source import IMAGENET_NAMES, NO_WEIGHTS
from tinytl.networks.backbones import backbone_of
from tinytl.plural import counted
from tinytl.runs.checkpoint_file import split_sizes
from tinytl.runs.exported import ABOUT_FILE, CONFIG_FILE, MODEL_FILE, SAFETENSORS_FILE
from tinytl.runs.judged import lines
from tinytl.training.judgements import Judgements
from tuner.findings.sureness import Sureness
from tuner.findings.text import accuracy_text, capitalized
from tuner.findings.text import describe as described
from tuner.finish.lengths import MOST_DOUBLINGS, best_length, lengths
from tuner.finish.outcome import Outcome
from tuner.record import schema

CARD = "README.md"
TEST = "test.json"
"""What the model says of the test images, as `python -m tinytl evaluate --json` prints it."""
NAMED = (
    "class_weighting",
    "sampling",
    "mixup_alpha",
    "cutmix_alpha",
    "rand_augment",
    "weight_average",
    "label_smoothing",
    "frozen_weights",
    "moments",
    "min_per_class",
)
"""Fields that change what a model learns: the card names them one by one."""
MOST_NAMED = 20
"""Classes that a line names."""


def card(outcome: Outcome, no_onnx: str | None) -> str:
    """Returns the card as Markdown; `no_onnx`: why there is no ONNX file, if there is none."""
    sections = {
        "": _summary(outcome),
        "Use it": _use(outcome, no_onnx),
        "How good it is": _judged(outcome),
        "What training it needs": _memory(outcome),
        "Data": _data(outcome),
        "How it was chosen": _chosen(outcome),
        "How it was trained": _trained(outcome),
        "Licence": _licence(outcome),
        "The commands that made it": _commands(outcome),
    }
    parts = [
        "\n".join(([f"## {title}", ""] if title else []) + list(text)) for title, text in sections.items()
    ]
    return "\n\n".join(parts) + "\n"


def _summary(outcome: Outcome) -> Iterator[str]:
    config, classes = outcome.run.config, outcome.data.classes
    shown = ", ".join(classes[:MOST_NAMED])
    more = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    yield f"# {outcome.data.name}: {config.backbone}, {config.method}"
    yield ""
    yield f"Sorts pictures into {len(classes)} classes: {shown}{more}. {_headline(outcome)}"


def _headline(outcome: Outcome) -> str:
    if outcome.test is None:
        return "It was judged on no test images: the data set has none."
    n_images, metric = counted(len(outcome.test.labels), "test image"), outcome.best.trial.metric
    return f"On {n_images}: {METRICS[metric]} **{with_error(outcome.test, metric)}**."


def with_error(found: Judgements, metric: str) -> str:
    """Returns a metric with its standard error: `0.709 ± 0.021`."""
    return f"{getattr(found, metric):.3f} ± {found.standard_error(metric):.3f}"


def _use(outcome: Outcome, no_onnx: str | None) -> Iterator[str]:
    side = outcome.run.config.resolution
    yield "With the package that made it (`FOLDER` is this folder):"
    yield ""
    yield "```console"
    yield "python -m tinytl predict FOLDER picture.jpg more_pictures/"
    yield "python -m tinytl evaluate FOLDER --split test"
    dataset = "" if outcome.run.config.dataset == "imagefolder" else " --dataset imagefolder"
    yield f"python -m tinytl evaluate FOLDER{dataset} --data-dir DIR     # DIR/CLASS/*.jpg, the same classes"
    yield "```"
    yield ""
    yield f"- `{SAFETENSORS_FILE}`: the weights, by the names of the network that `{CONFIG_FILE}` describes."
    if no_onnx is None:
        yield (
            f"- `{MODEL_FILE}`: `images` (N, 3, {side}, {side}), RGB in [0, 1], to `logits`; it normalises "
            f"its input. Compared with PyTorch: `check` in `{ABOUT_FILE}`."
        )
    else:
        yield f"- There is no `{MODEL_FILE}`: {no_onnx}."
    yield f"- `{ABOUT_FILE}`: classes in the order of outputs, how a picture is prepared, figures, checksums."
    if outcome.test is not None:
        yield f"- `{TEST}`: figures of each class on the test images, and which class is taken for which."


def _judged(outcome: Outcome) -> Iterator[str]:
    trial = outcome.best.trial
    if outcome.test is None:
        yield "There are no test images. The validation figures below are those by which it was chosen."
    else:
        found = outcome.test
        yield f"On {counted(len(found.labels), 'test image')}, {_chosen_by_test(outcome)}:"
        yield ""
        yield "| | |"
        yield "|---|---|"
        for metric, words in METRICS.items():
            yield f"| {capitalized(words)} | {with_error(found, metric)} |"
        yield ""
        yield (
            "± is one standard error: how far other images of the same kind would move the figure. Another "
            "seed of the training is not in it."
        )
        yield ""
        yield "```"
        yield from lines(found, outcome.data.classes)
        yield "```"
    yield ""
    on_val = "" if outcome.on_train is None else outcome.on_train.figures.get(trial.metric)
    if outcome.val_too:
        yield "It trained on the validation images, too, so **no figure of them judges it**."
        if on_val:
            yield f"The same training without them had {trial.metric_words} {on_val:.3f} on them."
    elif on_val:
        yield (
            f"On the {counted(len(outcome.data.val), 'validation image')} its {trial.metric_words} is "
            f"{on_val:.3f}. Configuration and length were chosen by them, so that is a little too good."
        )


def _chosen_by_test(outcome: Outcome) -> str:
    """Returns what the test images may have chosen of the model."""
    if not outcome.named:
        return "by which the program chose nothing of this model"
    return (
        "by which the program chose nothing; but a person named this trial, and may have seen its figures on "
        "these images"
    )


def _memory(outcome: Outcome) -> Iterator[str]:
    result = outcome.run.result
    measured = result["measured_peak_mib"]
    yield "| | MiB |"
    yield "|---|---:|"
    yield f"| A training step, predicted | {result['predicted_peak_mib']:.1f} |"
    if measured is not None:
        yield f"| A training step, as the allocator counted it | {measured:.1f} |"
    yield f"| The whole process that made this folder, resident | {outcome.process_mib:.0f} |"
    yield ""
    planned = config_from_flat(result["config"])
    yield (
        f"The step is of {counted(planned.batch_size, 'picture')}, with "
        f"{describe(planned)}. Most of the process is PyTorch's libraries and the images."
    )


def _data(outcome: Outcome) -> Iterator[str]:
    data = outcome.data
    sizes = ", ".join(f"{n:,} {split}" for split, n in split_sizes(data).items() if n is not None)
    digest = "" if data.digest is None else f", digest `{data.digest}` (of classes, labels and images)"
    yield f"{data.name}: {sizes} images{digest}."


def _chosen(outcome: Outcome) -> Iterator[str]:
    best, trial, study = outcome.best, outcome.best.trial, outcome.best.study
    under = "" if study.budget_mib is None else f", in {study.budget_mib:g} MiB or less"
    space = f" of space `{study.attributes[schema.SPACE]}`" if schema.SPACE in study.attributes else ""
    n_trials = counted(len(Sureness(study).fitting), "complete trial")
    by = f"by {trial.metric_words} on the validation images{under}"
    which = f"the best of {n_trials}{space}, {by}"
    if outcome.named:
        better = "" if study.best is None else f" The best, {by}, was `{study.best.label}`."
        n_trials = counted(study.counts["complete"], "complete trial")
        which = f"named by a person, one of {n_trials}{space}.{better}"
    yield (
        f"Trial `{trial.label}` of study `{study.name}`: {which.removesuffix('.')}. There it had "
        f"{trial.metric_words} {accuracy_text(trial)} after {counted(best.config.epochs, 'epoch')}. "
        f"Searched: {described(trial.params)}."
    )
    if len(outcome.tried) > 1:
        yield ""
        *_, (last, score) = outcome.tried.items()
        gained = score is not None and last == best_length(outcome.tried)
        cut_short = gained and last < lengths(best.config.epochs)[-1]
        why = ", and no further, for want of time" if cut_short else ""
        yield (
            "Then its length was doubled until a whole run was not better than the one before, at most to "
            f"{2**MOST_DOUBLINGS} times the study's{why}:"
        )
        yield ""
        yield f"| epochs | {trial.metric_words}, validation |"
        yield "|---:|---:|"
        for epochs, score in outcome.tried.items():
            kept = " (kept)" if epochs == outcome.run.epochs else ""
            yield f"| {epochs}{kept} | {'diverged' if score is None else f'{score:.3f}'} |"


def _trained(outcome: Outcome) -> Iterator[str]:
    config = outcome.run.config
    on = "training and validation images" if outcome.val_too else "training images"
    named = described({name: getattr(config, name) for name in NAMED})
    yield (
        f"{config.method} with {config.norm} on {config.backbone}, {counted(config.epochs, 'epoch')} on the "
        f"{on} at {config.resolution} px, batches of {config.batch_size}, {config.optimizer} at "
        f"{config.base_lr:.3g}, {config.lr_schedule} schedule, seed {config.seed}. {named}. "
        f"{_which_weights(config)} `{CONFIG_FILE}` has every setting."
    )


def _which_weights(config: TrainConfig) -> str:
    if config.weight_average:
        return (
            "The weights that trained are a moving average of their values at every step, with decay "
            f"{config.weight_average:g}, as it was after the last epoch."
        )
    return "The weights are those after the last epoch."


def _licence(outcome: Outcome) -> Iterator[str]:
    config = outcome.run.config
    if config.weights == NO_WEIGHTS:
        yield "Training began with random weights: nothing of others is in these."
    elif config.weights in IMAGENET_NAMES:
        licence = backbone_of(config.backbone).licence
        yield f"Training began with ImageNet weights of {config.backbone}: {licence}."
    else:
        yield f"Training began with the weights `{config.weights}`, whose licence is not known here."
    if config.lite_weights is not None:
        yield f"Lite residuals began with `{config.lite_weights}`, whose licence is not known here."
    yield "The licence of the images is not known here."


def _commands(outcome: Outcome) -> Iterator[str]:
    began = dict.fromkeys(session.command for session in outcome.best.study.sessions)
    yield "```console"
    yield from began
    yield outcome.command
    yield "```"
