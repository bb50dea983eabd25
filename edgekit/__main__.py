"""``python -m edgekit`` is the same program as ``edgekit``."""

from edgekit.cli.main import run

run()
