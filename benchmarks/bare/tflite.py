"""Static int8 with the LiteRT quantizer."""

from __future__ import annotations

import litert_torch
import torch
from ai_edge_quantizer import quantizer, recipe

from benchmarks.bare import network, out, samples

litert_torch.convert(network(), (torch.zeros(1, 3, 32, 32),)).export(str(out() / "fp32.tflite"))
work = quantizer.Quantizer(str(out() / "fp32.tflite"), recipe.static_wi8_ai8())
calibration = work.calibrate({"serving_default": [{"args_0": sample} for sample in samples()]})
work.quantize(calibration).export_model(str(out() / "int8.tflite"))
