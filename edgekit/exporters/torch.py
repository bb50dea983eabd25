"""The original as an exported program (``.pt2``): what stands for a model in its own framework, without the code that built it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.chatter import muted
from edgekit.core.errors import ExportError
from edgekit.core.modules import ExampleCall, example_call, load_module, named_outputs
from edgekit.core.plugin import Exporter
from edgekit.runner import RunnerError, load
from edgekit.runner.runtimes._pt2 import NAMES

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

FILE = "model.pt2"
_TRACED = 2
"""Samples to trace with: PyTorch takes an axis of one for a fixed one."""
_COMPARED = (1, 3)
_TOLERANCE = 1e-5


class Torch(Exporter):
    """Export with ``torch.export``, the batch and the data set's dynamic axes left open.

    The program keeps PyTorch's own operators, so it computes what the model computes. What the export knows of the machine (paths, stack
    traces, example inputs) is left out: the same model gives the same bytes anywhere.
    """

    requires = {"torch": "torch"}
    packages = ("torch",)

    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write ``model.pt2`` and compare what it computes with what the module computes.

        Raises:
            ExportError: the model can't be traced, fixes an axis that varies, or computes something else as a program.
        """
        return self.write(load_module(checkpoint), out, context)

    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write ``model.pt2`` from a module in memory, and compare.

        Raises:
            ExportError: as :meth:`export`.
        """
        import torch

        call = example_call(module, context, batch=_TRACED)
        program = _traced(module, call)
        _strip(program)
        names = {side: _shapes(program, call, side) for side in ("inputs", "outputs")}
        torch.export.save(program, out / FILE, extra_files={NAMES: json.dumps(names)})
        inputs, outputs = _compare(module, context, out / FILE)
        return Artifact.describe(out, format="torch", file=FILE, precision="fp32", inputs=inputs, outputs=outputs)


def _traced(module: torch.nn.Module, call: ExampleCall) -> torch.export.ExportedProgram:
    import torch

    class Flat(torch.nn.Module):
        """Takes its inputs by position and returns a plain tuple: a program must not need the classes of a model's library."""

        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            result = self.model(*given) if call.args else self.model(**dict(zip(call.names, given, strict=True)))
            outputs = named_outputs(result)
            return tuple(outputs[name] for name in call.outputs)

    dims = call.dims()
    shapes = {"given": tuple(dims.values()) if isinstance(dims, dict) else dims}
    flat = Flat().eval()
    with muted(), torch.no_grad():
        try:
            return _captured(flat, call, shapes)
        except Exception as problem:
            raise _explained(problem) from problem


def _captured(flat: torch.nn.Module, call: ExampleCall, shapes: Any) -> torch.export.ExportedProgram:
    """Export; a limit that the model sets to an axis (a table of 512 positions, say) is taken over from PyTorch's complaint."""
    import torch
    from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes

    try:
        return torch.export.export(flat, call.tensors, dynamic_shapes=shapes)
    except torch._dynamo.exc.UserError as problem:
        said = str(problem).split("\n\n")[0]
        if _FIXED.search(said) or "Suggested fixes" not in said:
            raise
        limited = refine_dynamic_shapes_from_suggested_fixes(said, shapes)
        return torch.export.export(flat, call.tensors, dynamic_shapes=limited)


def _explained(problem: BaseException) -> ExportError:
    """Say in one line which axis or which line of the model is in the way."""
    said = str(problem)
    if fixed := _FIXED.search(said):
        hint = "let forward work for any size of it (no reshape to a fixed size, no loop over samples)"
        return ExportError(f"torch.export can't keep {fixed[1]!r} open: the model fixes it to {fixed[2]}", hint=hint)
    at = f" at '{line[1].strip()}'" if (line := _CODE.search(said)) else ""
    if "data-dependent" in said:
        hint = "choose with torch.where or torch.cond instead of a Python if, and keep sizes out of the values"
        return ExportError(f"torch.export can't follow a choice that depends on the values{at}", hint=hint)
    first = next((text.strip() for text in said.splitlines() if text.strip()), type(problem).__name__)
    return ExportError(f"torch.export can't follow the model{at}: {first[:200]}", hint="keep forward to tensor operations of PyTorch")


_FIXED = re.compile(r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)")
_CODE = re.compile(r"The following call raised this error:\s*\n(?:\s*File .+\n)*\s*(.+)")


def _strip(program: torch.export.ExportedProgram) -> None:
    """Remove what differs between machines and nothing reads: stack traces, module paths, example inputs."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    program._module_call_graph = program.module_call_graph[:1]
    program._example_inputs = None


def _shapes(program: torch.export.ExportedProgram, call: ExampleCall, side: str) -> dict[str, list[int | str]]:
    """Name inputs or outputs and their axes: sizes, the data set's symbols, or expressions of them."""
    signature = program.graph_signature
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    given = dict(zip(call.names, (values[name].shape for name in signature.user_inputs), strict=True))
    symbols = {str(given[name][axis]): symbol for name, axes in zip(call.names, call.dynamic, strict=True) for axis, symbol in axes.items()}
    shapes = given if side == "inputs" else dict(zip(call.outputs, (values[name].shape for name in signature.user_outputs), strict=True))

    def word(size: Any) -> int | str:
        return size if isinstance(size, int) else re.sub(r"\w+", lambda m: symbols.get(m[0], m[0]), str(size))

    return {name: [word(size) for size in shape] for name, shape in shapes.items()}


def _compare(module: torch.nn.Module, context: Context, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Run program and module on batches it was not traced with; return the program's inputs and outputs."""
    try:
        program = load(path, "pytorch")
    except RunnerError as problem:
        raise ExportError(problem.message, hint="rewrite the model without that operator") from problem
    try:
        for batch in _COMPARED:
            call = example_call(module, context, batch=batch)
            found = program.run({name: tensor.numpy() for name, tensor in zip(call.names, call.tensors, strict=True)})
            for name, wanted in call.outputs.items():
                _same(name, found[name], wanted.numpy(), batch)
    except RunnerError as problem:
        raise ExportError(f"the exported program fails: {problem.message}", hint="let forward work for any number of samples") from problem
    finally:
        program.close()
    return tuple(TensorSpec(*spec) for spec in program.inputs), tuple(TensorSpec(*spec) for spec in program.outputs)


def _same(name: str, found: np.ndarray, wanted: np.ndarray, batch: int) -> None:
    if found.shape != wanted.shape:
        reason = f"output {name!r} of {batch} samples is {list(found.shape)} as a program, {list(wanted.shape)} as a module"
        raise ExportError(reason, hint="let forward work for any number of samples")
    scale = float(np.abs(np.nan_to_num(wanted.astype(np.float64))).max(initial=0.0))
    if not np.allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=_TOLERANCE * max(scale, 1.0), equal_nan=True):
        worst = float(np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max())
        reason = f"output {name!r} of {batch} samples differs by {worst:.2g} between module and program"
        raise ExportError(reason, hint="forward must not keep state, draw random numbers, or branch on the number of samples")
