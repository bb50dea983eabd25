"""OpenVINO IR through its own PyTorch frontend, with the layer names that people know from their module.

The module is traced, not captured: a trace takes seconds less, needs no change to a model that checks its input's shape, and keeps
every axis that OpenVINO can keep. What a trace can get wrong (a branch on the data) is found when the export is compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import openvino_ir
from edgekit.core.chatter import muted
from edgekit.core.errors import ExportError
from edgekit.core.modules import example_call, load_module, named_outputs
from edgekit.core.plugin import Exporter

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Artifact, Checkpoint
    from edgekit.core.modules import ExampleCall
    from edgekit.core.plugin import Context

READABLE = ("onnx", "openvino", "tflite")


class OpenVino(Exporter):
    """Export in fp32 with a dynamic batch; layers are named after the modules they come from."""

    requires = {"openvino": "openvino"}
    packages = ("torch", "openvino")

    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write ``model.xml`` and ``model.bin``.

        Raises:
            ExportError: an operator has no OpenVINO form; it is named.
        """
        if checkpoint.kind == "graph":
            return self._saved(self._read(checkpoint), out)
        return self.write(load_module(checkpoint), out, context)

    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write ``model.xml`` and ``model.bin`` from a module in memory.

        Raises:
            ExportError: as :meth:`export`.
        """
        return self._saved(self._traced(module, example_call(module, context, batch=2)), out)

    def _saved(self, model: Any, out: Path) -> Artifact:
        openvino_ir.save(model, out)
        return openvino_ir.describe(out, model, "fp32", {})

    def _read(self, checkpoint: Checkpoint) -> Any:
        kind = checkpoint.description.get("format")
        if kind not in READABLE:
            raise ExportError(f"a ready {checkpoint.source} graph does not become OpenVINO IR", hint="start from the PyTorch checkpoint")
        with muted():
            try:
                model = openvino_ir.read(checkpoint.path / checkpoint.description["file"])
            except RuntimeError as problem:
                raise ExportError(f"OpenVINO can't carry this model: {openvino_ir.complaint(problem)}", hint=_HINT) from problem
            if kind == "openvino":
                return model
            if kind == "tflite":
                _name_ends(model, checkpoint.path / checkpoint.description["file"])
            return openvino_ir.optimized(model)

    def _traced(self, module: torch.nn.Module, call: ExampleCall) -> Any:
        import openvino
        import torch

        with muted(), torch.no_grad():
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

            try:
                # A second trace to check the first takes longer than the first, and the export is compared with the module anyway.
                wrapped, unchecked = _positional(module, call), {"check_trace": False}
                decoder = TorchScriptPythonDecoder(wrapped, example_input=call.tensors, trace_kwargs=unchecked)
                frontend = FrontEndManager().load_by_framework("pytorch")
                loaded = frontend.load(decoder)
                for place, tensor, varying in zip(loaded.get_inputs(), call.tensors, call.dynamic, strict=True):
                    shape = [-1 if axis in varying else size for axis, size in enumerate(tensor.shape)]
                    loaded.set_partial_shape(place, openvino.PartialShape(shape))
                model = openvino_ir.optimized(frontend.convert(loaded))
            except Exception as problem:
                raise ExportError(f"OpenVINO can't carry this model: {openvino_ir.complaint(problem)}", hint=_HINT) from problem
        for parameter, port, name in zip(model.get_parameters(), model.inputs, call.names, strict=True):
            parameter.set_friendly_name(name)
            port.get_tensor().set_names({name})
        for result, port, name in zip(model.get_results(), model.outputs, call.outputs, strict=True):
            result.set_friendly_name(f"{name}/result")
            port.get_tensor().set_names({name})
        return model


_HINT = "rewrite the named operator, or choose another format with --format"


def _name_ends(model: Any, file: Path) -> None:
    """Name inputs and outputs as a flatbuffer's signature does, where OpenVINO takes the names of tensors."""
    from edgekit.core import tflite_model

    for ports, specs in zip((model.inputs, model.outputs), tflite_model.specs(tflite_model.read(file)), strict=True):
        for port, spec in zip(ports, specs, strict=True):
            port.get_tensor().set_names({spec.name})


def _positional(module: torch.nn.Module, call: ExampleCall) -> torch.nn.Module:
    """Wrap a module so that it takes its inputs by position and returns its outputs as a tuple, as a trace needs."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
            result = self.inner(*inputs) if call.args else self.inner(**dict(zip(call.names, inputs, strict=True)))
            outputs = tuple(named_outputs(result).values())
            return outputs[0] if len(outputs) == 1 else outputs

    return Positional().eval()
