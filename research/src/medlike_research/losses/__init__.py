"""Losses of other methods, one a file, by the rules of medlike.training.losses."""
