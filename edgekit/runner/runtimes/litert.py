"""TFLite models in LiteRT, the interpreter that newer TFLite files are made for."""

from __future__ import annotations

from ._tflite import TfLite


class LiteRt(TfLite):
    """The interpreter of ai-edge-litert."""

    PACKAGES = ("ai-edge-litert",)
    MODULE = "ai_edge_litert.interpreter"
