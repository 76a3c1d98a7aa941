"""A GPU, and what can be known of one without it."""
