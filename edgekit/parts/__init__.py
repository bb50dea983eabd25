"""Ways to divide a model into graphs that run in turn, one a file."""
