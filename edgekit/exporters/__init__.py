"""Exporters, one model format a file."""
