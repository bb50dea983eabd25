"""edgekit: from a pretrained checkpoint to a validated model for a target device.

Importing edgekit is cheap; the functions below load what they need when they are called.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# Unless told before they are imported, ONNX Runtime and OpenVINO report their use over the network and leave files in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes its import fail, which openvino and nncf expect

__version__ = "0.1.0"
__all__ = ["__version__", "benchmark", "compare", "compress", "inspect", "validate"]

if TYPE_CHECKING:
    from edgekit.api import benchmark, compare, compress, inspect, validate


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("edgekit.api"), name)
