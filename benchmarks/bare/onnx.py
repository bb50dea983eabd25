"""Static int8 with ONNX Runtime's quantizer."""

from __future__ import annotations

import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.bare import network, out, samples


class Reader(CalibrationDataReader):
    """Calibration samples."""

    def __init__(self) -> None:
        self.rest = ({"input": sample} for sample in samples())

    def get_next(self) -> dict | None:
        """The next sample."""
        return next(self.rest, None)


torch.onnx.export(
    network(),
    (torch.zeros(2, 3, 32, 32),),
    out() / "fp32.onnx",
    dynamo=True,
    opset_version=20,
    input_names=["input"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),
    external_data=False,
)
quant_pre_process(out() / "fp32.onnx", out() / "prepared.onnx", skip_symbolic_shape=True)
quantize_static(
    out() / "prepared.onnx",
    out() / "int8.onnx",
    Reader(),
    quant_format=QuantFormat.QDQ,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
    per_channel=True,
)
