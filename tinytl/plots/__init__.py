"""Figures, a kind a file, readable in grey and by colour-blind readers."""
