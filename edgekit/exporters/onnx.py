"""ONNX through PyTorch's graph-capturing exporter, with the layer names that people know from their module."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core.artifacts import Artifact, TensorSpec
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import ExportError
from edgekit.core.modules import example_call, load_module
from edgekit.core.plugin import Exporter
from edgekit.exporters._onnx_graphs import modernized, opset_of

if TYPE_CHECKING:
    import onnx
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.modules import ExampleCall
    from edgekit.core.plugin import Context

_OUTPUT = "edgekit_output_"
"""Names of outputs while a graph is captured."""
FIRST_CAPTURED_OPSET = 18
"""The graph-capturing exporter writes this opset and newer ones; older ones come from the tracing exporter."""
EXTERNAL_DATA_FROM = 1_900_000_000
"""Bytes beyond which weights lie beside the graph; a protobuf file ends at 2 GiB."""


class Onnx(Exporter):
    """Export with a dynamic batch; nodes are named after the modules they come from."""

    requires = {"onnx": "onnx", "onnxscript": "onnxscript"}
    packages = ("torch", "onnx", "onnxscript")

    opset: int = Field(20, ge=11, le=23, description="Version of the ONNX operator set.")

    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            ExportError: an operator has no ONNX form, or the wanted opset can't be had.
        """
        if checkpoint.kind == "graph":
            return self._taken_over(checkpoint, out)
        return self.write(load_module(checkpoint), out, context)

    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write ``model.onnx`` from a module in memory.

        Raises:
            ExportError: as :meth:`export`.
        """
        import onnx

        call = example_call(module, context, batch=2)
        model = self._captured(module, call) if self.opset >= FIRST_CAPTURED_OPSET else self._traced(module, call)
        name_nodes(model.graph)
        strip_metadata(model)
        external = model.ByteSize() > EXTERNAL_DATA_FROM
        onnx.save(model, out / "model.onnx", save_as_external_data=external, location="model.onnx.data")
        return self._described(model, out)

    def _described(self, model: onnx.ModelProto, out: Path, changes: Sequence[str] = ()) -> Artifact:
        stored = {tensor.name for tensor in model.graph.initializer}
        return Artifact.describe(
            out,
            format="onnx",
            file="model.onnx",
            precision="fp32",
            inputs=specs([value for value in model.graph.input if value.name not in stored]),
            outputs=specs(model.graph.output),
            metadata={"opset": opset_of(model), **({"changes": list(changes)} if changes else {})},
        )

    def _captured(self, module: torch.nn.Module, call: ExampleCall) -> onnx.ModelProto:
        import torch

        with muted():
            try:
                program = torch.onnx.export(
                    module,
                    call.args,
                    kwargs=call.kwargs,
                    dynamo=True,
                    opset_version=self.opset,
                    input_names=list(call.names),
                    output_names=[f"{_OUTPUT}{index}" for index in range(len(call.outputs))],
                    dynamic_shapes=call.dims(),
                    verbose=False,
                )
            except Exception as problem:
                raise ExportError(f"ONNX can't carry this model: {innermost(problem)}", hint=_HINT) from problem
        if program is None:
            raise ExportError("ONNX can't carry this model: the exporter returned nothing", hint=_HINT)
        model: onnx.ModelProto = program.model_proto
        name_outputs(model.graph, list(call.outputs))
        return model

    def _traced(self, module: torch.nn.Module, call: ExampleCall) -> onnx.ModelProto:
        import onnx
        import torch

        file = io.BytesIO()
        axes = {**dict(zip(call.names, call.dynamic, strict=True)), **{name: {0: "batch"} for name in call.outputs}}
        with muted():
            try:
                torch.onnx.export(
                    module,
                    call.args,
                    file,  # type: ignore[arg-type]
                    kwargs=call.kwargs,
                    dynamo=False,
                    opset_version=self.opset,
                    input_names=list(call.names),
                    output_names=list(call.outputs),
                    dynamic_axes=axes,
                )
            except Exception as problem:
                raise ExportError(f"ONNX opset {self.opset} can't carry this model: {innermost(problem)}", hint=_HINT) from problem
        model = onnx.load_from_string(file.getvalue())
        _add_unread(model.graph, call)
        return model

    def _taken_over(self, checkpoint: Checkpoint, out: Path) -> Artifact:
        """Bring a ready graph up to date, and copy it where it is; a chosen opset older than the graph's is converted to as well."""
        import onnx

        if checkpoint.description.get("format") != "onnx":
            raise ExportError(f"a ready {checkpoint.source} graph does not become ONNX", hint="start from the PyTorch checkpoint")
        file = checkpoint.path / checkpoint.description["file"]
        size = sum(path.stat().st_size for path in checkpoint.path.rglob("*") if path.is_file())
        if size > EXTERNAL_DATA_FROM:
            raise ExportError(f"an ONNX graph of {size / 1e9:.1f} GB is beyond 2 GB", hint="start from the PyTorch checkpoint")
        model, changes = modernized(onnx.load(file), self.opset if "opset" in self.model_fields_set else None)
        shaped = onnx.shape_inference.infer_shapes(model)
        if changes:
            del shaped.graph.value_info[:]
            onnx.save(shaped, out / "model.onnx")
        else:
            _copy(checkpoint.path, out)
        return self._described(shaped, out, changes)


def _add_unread(graph: onnx.GraphProto, call: ExampleCall) -> None:
    """Give a traced graph the inputs that nothing in it reads, which the tracing exporter leaves out."""
    import onnx

    inputs = {value.name: value for value in graph.input}
    for name, tensor, axes in zip(call.names, call.tensors, call.dynamic, strict=True):
        if name not in inputs:
            kind = onnx.helper.np_dtype_to_tensor_dtype(tensor.numpy().dtype)
            shape = [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]
            inputs[name] = onnx.helper.make_tensor_value_info(name, kind, shape)
    ordered = [inputs.pop(name) for name in call.names] + list(inputs.values())
    del graph.input[:]
    graph.input.extend(ordered)


_HINT = "rewrite the named operator, or choose another format with --format"


def _copy(folder: Path, out: Path) -> None:
    """Copy a graph with its external data."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("checkpoint.json", "stage.json"):
            (out / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / path.relative_to(folder))


def name_nodes(graph: onnx.GraphProto) -> None:
    """Name each node after the module it comes from: ``layer1.0.conv1``, or ``layer1.0/add`` for what has no weights."""
    seen: Counter[str] = Counter()
    weights = {i.name.removesuffix(".weight") for i in graph.initializer if i.name.endswith(".weight")}
    for node in graph.node:
        module = next((i.removesuffix(".weight") for i in node.input if i.removesuffix(".weight") in weights and i.endswith(".weight")), "")
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        if not module and not scopes:
            continue
        name = module or _scoped(scopes, node.op_type)
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def name_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Give the outputs their names; a value inside that bears one of them already (``embedding``, after its operator) gives way."""
    made = {value for node in graph.node for value in node.output} | {tensor.name for tensor in graph.initializer}
    new = {f"{_OUTPUT}{index}": name for index, name in enumerate(names)}
    new |= {name: f"{name}/inside" for name in names if name in made}

    def rename(part: onnx.GraphProto) -> None:
        for node in part.node:
            node.input[:] = [new.get(value, value) for value in node.input]
            node.output[:] = [new.get(value, value) for value in node.output]
            for attribute in node.attribute:
                for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                    rename(inner)
        for entry in (*part.initializer, *part.value_info, *part.output):
            entry.name = new.get(entry.name, entry.name)

    rename(graph)


def _scoped(scopes: str, operator: str) -> str:
    parts = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    inner = [part for part in parts[:-1] if part]
    return f"{inner[-1]}/{operator}" if inner else operator


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove what the exporter noted for debugging (stack traces with paths); it bloats the file and differs between machines."""
    del model.metadata_props[:]
    model.doc_string = ""
    for item in (
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        *model.graph.initializer,
    ):
        item.doc_string = ""
        del item.metadata_props[:]


def specs(values: Any) -> tuple[TensorSpec, ...]:
    """Describe a graph's inputs or outputs."""
    import onnx

    found = []
    for value in values:
        kind = value.type.tensor_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = tuple(d.dim_param or d.dim_value if d.WhichOneof("value") else "?" for d in kind.shape.dim)
        found.append(TensorSpec(value.name, dtype, shape))
    return tuple(found)
