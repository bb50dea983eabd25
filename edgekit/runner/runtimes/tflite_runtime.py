"""TFLite models in the legacy tflite-runtime, which many boards still carry."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import RunnerError  # noqa: TID252 - the runner is also loaded under another name
from ._tflite import TfLite


class TfLiteRuntime(TfLite):
    """The interpreter of tflite-runtime."""

    PACKAGES = ("tflite-runtime",)
    MODULE = "tflite_runtime.interpreter"

    @classmethod
    def library(cls) -> Any:
        """Import the library; with NumPy 2 it imports and fails only later, so that is refused here."""
        if int(np.__version__.split(".")[0]) >= 2:
            reason = f"tflite-runtime needs numpy below 2, here is {np.__version__}"
            raise RunnerError("missing", reason, "run it in an environment of its own: host venv")
        return super().library()
