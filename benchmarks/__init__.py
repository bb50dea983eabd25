"""Comparisons that anybody can run: against the original, against bare libraries."""
