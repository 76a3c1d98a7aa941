"""What a configuration says of values that it refuses."""

from typing import Any

import pytest

from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError


def refusal_of(fields: dict[str, Any]) -> str:
    """The message with which a configuration of these fields is refused: one line."""
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)
