"""Readers of calibration and evaluation data."""
