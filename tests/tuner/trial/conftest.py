"""A store of features that is on."""

from tests.support.feature_store import feature_store

__all__ = ["feature_store"]
