"""Static int8 with NNCF."""

from __future__ import annotations

import nncf
import openvino
import torch

from benchmarks.bare import network, out, samples

model = openvino.convert_model(network(), example_input=torch.zeros(1, 3, 32, 32), input=[("x", [-1, 3, 32, 32])])
quantized = nncf.quantize(model, nncf.Dataset(list(samples())), preset=nncf.QuantizationPreset.MIXED, subset_size=300)
openvino.save_model(quantized, out() / "int8.xml")
