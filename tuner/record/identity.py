"""What a study cannot change. Imports torch only when asked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinytl.config.flat import flat_from_config
from tinytl.config.names import METRICS
from tinytl.plural import counted
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


def networks_of(identity: Mapping[str, Any]) -> list[str]:
    """Returns the networks that a study trains: several if it searches over them; none if it does not say."""
    searched = identity.get(schema.PARAMETERS, {}).get(schema.BACKBONE)
    if searched is not None:  # in words, perhaps with a condition
        return str(searched).partition(" (")[0].split(", ")
    return [str(identity[schema.BACKBONE])] if schema.BACKBONE in identity else []


def network_in_words(identity: Mapping[str, Any]) -> str:
    """Returns the name of a study's network, or how many it searches."""
    networks = networks_of(identity)
    if len(networks) == 1:
        return networks[0]
    return counted(len(networks), "backbone") if networks else "unknown network"
