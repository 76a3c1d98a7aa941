"""The commands of `python -m tinytl`, a file each: `add_parser` and what it runs."""
