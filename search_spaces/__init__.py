"""The search spaces: one YAML file each, and the loader that checks and samples them."""
