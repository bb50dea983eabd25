"""Passes: a checkpoint in, a better checkpoint out."""
