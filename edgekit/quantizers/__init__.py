"""Quantizers, native to their format, one method a file."""
