"""Measuring: accuracy, agreement, latency, memory, size."""
