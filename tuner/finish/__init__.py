"""A finished model of a study's best: trained for long enough, judged once, written with its card."""
