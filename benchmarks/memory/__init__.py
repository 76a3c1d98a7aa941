"""Memory and time of a training step: engines, plans, peers (docs/memory.md)."""
