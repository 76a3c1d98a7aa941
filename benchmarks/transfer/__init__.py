"""Accuracy of methods on real images, and how fast they are read (docs/results.md, docs/data.md)."""
