"""Plugins that bring a model from the outside world."""
