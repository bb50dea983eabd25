"""Tasks: what a model is for, and how its field judges it."""
