"""What a study cannot change. Imports torch only when asked."""

from typing import TYPE_CHECKING, Any

from tinytl.config.flat import flat_from_config
from tinytl.config.names import METRICS
from tuner.record import schema

if TYPE_CHECKING:
    from tuner.prepared import PreparedStudy


def identity_of(prepared: "PreparedStudy") -> dict[str, Any]:
    """Returns what has to stay the same when a study is resumed: else its trials could not be compared."""
    from tinytl.runs.checkpoint_file import MAY_DIFFER

    data, base = prepared.data, prepared.base
    return {
        schema.SPACE: prepared.space.name,
        schema.PARAMETERS: {p.name: p.describe() for p in prepared.space.parameters},
        schema.FIXED: dict(prepared.space.fixed),
        schema.DATASET: data.name,
        schema.EXPERIMENT: prepared.config.experiment or data.name,
        schema.CLASSES: len(data.classes),
        schema.IMAGES: len(data.train),
        schema.IMAGES_DIGEST: data.digest,
        schema.BACKBONE: base.backbone,
        schema.WEIGHTS: base.weights,
        schema.EPOCHS: base.epochs,
        schema.OBJECTIVES: " and ".join(
            [METRICS[base.metric], *(["memory"] if prepared.searches_memory else [])]
        ),
        schema.MAX_SLOWDOWN: prepared.config.max_slowdown,
        schema.SETTINGS: {k: v for k, v in flat_from_config(base).items() if k not in MAY_DIFFER},
    }
