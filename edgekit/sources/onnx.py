"""A ready ONNX graph; PyTorch is not needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import digest
from edgekit.core.artifacts import ARTIFACT, DESCRIPTION, Checkpoint
from edgekit.core.errors import SourceError
from edgekit.core.plugin import Source
from edgekit.core.store import RECORD
from edgekit.runner.contract import DTYPES
from edgekit.sources._graphs import checked, no_module

if TYPE_CHECKING:
    import onnx
    import torch

    from edgekit.core.plugin import Context

FILE = "model.onnx"
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Operator sets that ONNX Runtime brings."""


class Onnx(Source):
    """Take an ``.onnx`` file as it is."""

    requires = {"onnx": "onnx"}
    reaches = ("onnx", "openvino")

    path: Path = Field(description="The .onnx file; external data lies beside it.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is ``.onnx``."""
        return Path(path).suffix == ".onnx"

    def fingerprint(self) -> dict[str, str]:
        """Digests of the graph and of its external data."""
        external = external_files(read_graph(self.path), self.path)
        return {"graph": digest.of_file(self.path), **{name: digest.of_file(self.path.parent / name) for name in external}}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Check the graph, try it out and copy it with its external data.

        Raises:
            SourceError: damaged file, a graph that breaks the ONNX specification, NaN or infinite weights, an operator that ONNX Runtime
                does not have, inputs or outputs that are no arrays of numbers.
        """
        import onnx

        model = read_graph(self.path)
        external = external_files(model, self.path)
        newest = onnx.defs.onnx_opset_version()
        for opset in model.opset_import:
            if opset.domain in ("", "ai.onnx") and opset.version > newest:
                raise SourceError(
                    f"{self.path}: is of opset {opset.version}, the newest known is {newest}", hint="export it in an older opset"
                )
        try:
            onnx.checker.check_model(str(self.path), full_check=False)
        except (onnx.checker.ValidationError, ValueError, RuntimeError) as problem:
            raise SourceError(f"{self.path}: is no valid ONNX model ({str(problem).splitlines()[0][:160]})", hint=_HINT) from problem
        check_finite(model, self.path)
        check_supported(model, self.path)
        checked(self.path, "onnxruntime", self.path)
        shutil.copyfile(self.path, out / FILE)
        for name in external:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path.parent / name, out / name)
        return Checkpoint.describe(out, "onnx", "graph", {"format": "onnx", "file": FILE})

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Refuse: a ready graph has no PyTorch module.

        Raises:
            SourceError: always.
        """
        raise no_module("an ONNX graph")


_HINT = "export it again, or compare its checksum with the original"


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a model without its external data.

    Raises:
        SourceError: unreadable or damaged file, or one without a graph.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give the path of an .onnx file") from problem
    except (DecodeError, ValueError) as problem:
        raise SourceError(f"{path}: is damaged or no ONNX model", hint=_HINT) from problem
    if not model.graph.node:
        raise SourceError(f"{path}: holds no graph", hint=_HINT)
    return model


def external_files(model: onnx.ModelProto, path: Path) -> list[str]:
    """Names of the external-data files of a model, relative to it.

    Raises:
        SourceError: external data that is missing, outside the model's folder, or under a name that edgekit needs.
    """
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    names = sorted({ExternalDataInfo(t).location for t in _tensors(model.graph) if uses_external_data(t)})
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise SourceError(f"{path}: refers to external data outside its folder ({name})", hint="keep external data beside the model")
        if not (path.parent / name).is_file():
            raise SourceError(f"{path}: its external data {name} is missing", hint=f"put {name} beside the model")
        if name in (FILE, DESCRIPTION, ARTIFACT, RECORD):
            raise SourceError(f"{path}: its external data can't be called {name}", hint="save the model with another location")
    return names


def check_finite(model: onnx.ModelProto, path: Path) -> None:
    """Refuse weights that are not numbers; infinity is right in a mask that is added, never in what is multiplied.

    Raises:
        SourceError: names the first tensor with NaN or infinity.
    """
    import numpy as np
    import onnx

    factors = {name for node in model.graph.node if node.op_type in _MULTIPLYING for name in node.input}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    for tensor in model.graph.initializer:
        if tensor.data_type not in floats:
            continue
        try:
            values = onnx.numpy_helper.to_array(tensor, str(path.parent))
        except ValueError as problem:
            raise SourceError(f"{path}: {tensor.name} is damaged ({problem})", hint=_HINT) from problem
        if not (np.isfinite(values).all() if tensor.name in factors else not np.isnan(values).any()):
            raise SourceError(
                f"{path}: {tensor.name} holds NaN or infinity", hint="the training diverged or the file is damaged; use another model"
            )


def check_supported(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators of foreign domains, and inputs and outputs that are no arrays of numbers.

    Raises:
        SourceError: names the operator, the input or the output.
    """
    import onnx

    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model.graph):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise SourceError(
                f"{path}: operator {node.domain}.{node.op_type} is of a domain that no runtime here has",
                hint="export the model with standard operators, or with that operator as a function of the model",
            )
    stored = {tensor.name for tensor in model.graph.initializer}
    for side, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            kind = value.type.WhichOneof("value")
            if kind not in (None, "tensor_type") or value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
                what = "text" if kind == "tensor_type" else str(kind).removesuffix("_type").replace("_", " ")
                raise SourceError(f"{path}: {side} {value.name!r} is {what}, not numbers", hint="cut that part off the graph")
            number = value.type.tensor_type.elem_type
            if kind and value.name not in stored and onnx.helper.tensor_dtype_to_np_dtype(number).name not in DTYPES:
                word = onnx.TensorProto.DataType.Name(number).lower()
                raise SourceError(f"{path}: {side} {value.name!r} is {word}, which NumPy does not have", hint="cast it inside the graph")


_MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "Gather", "LSTM", "GRU")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers and constants, of subgraphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            if inner.node:
                yield from _tensors(inner)
