"""Hosts: places where the runner runs a model."""
