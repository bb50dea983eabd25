"""Reads a ``.pt2`` exported program as what it is: JSON and raw weights.

``torch.export.load`` of PyTorch 2.13 unpickles tensor subclasses, constants and example inputs without restriction, evaluates symbolic
expressions with ``sympify`` and imports modules that the file names; so a file can run anything. This reader takes the graph from the
JSON, admits nothing but ATen operators and arithmetic on sizes, and never unpickles. It needs no more than ``import torch``, which
keeps the exporter's machinery (SymPy, Dynamo) out of the memory and the start-up time of the model.

Format: torch/_export/serde/schema.py, schema version 8.
"""

from __future__ import annotations

import json
import math
import operator
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contract import Tensor, not_loadable, symbol  # noqa: TID252 - the runner is also loaded under another name

if TYPE_CHECKING:
    import torch

SCHEMA = 8
NAMES = "edgekit.json"
"""Extra file with the names of inputs and outputs and of their symbolic axes."""

_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32", 10: "complex64",
    11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip
_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_STRIDED = 7
_ON_SIZES: dict[str, Callable[..., Any]] = {
    **{f"_operator.{f.__name__}": f for f in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod)},
    **{f"_operator.{f.__name__}": f for f in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.neg)},
    **{f"_operator.{f.__name__}": f for f in (operator.and_, operator.or_, operator.pow, operator.getitem)},
    "math.trunc": math.trunc,
}
_TORCH_ON_SIZES = {f"torch.{name}" for name in ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_ite")}
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_READS_FILES = {"from_file"}
_POSITIONAL = 1


class Program(NamedTuple):
    """A loaded program.

    Attributes:
        call: ``call(*weights, *inputs)`` gives a tuple of tensors.
        weights: what comes first.
        inputs: what the program takes.
        outputs: what it gives.
    """

    call: Callable[..., tuple[torch.Tensor, ...]]
    weights: list[torch.Tensor]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(path: Path) -> Program:
    """Read an exported program.

    Raises:
        RunnerError: ``model``: the file is damaged, holds pickled content, or asks for more than ATen operators.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _program(Archive(archive))
    except Exception as problem:  # a damaged file may lead anywhere
        raise not_loadable(path, problem) from problem


class Archive:
    """The members of a ``.pt2``, which all lie below one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._root = archive.namelist()[0].split("/")[0]
        self._storages: dict[str, torch.Tensor] = {}

    def has(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._archive.namelist()

    def json(self, name: str) -> Any:
        return json.loads(self._archive.read(self._member(name)))

    def tensors(self, folder: str) -> dict[str, torch.Tensor]:
        config = self.json(f"data/{folder}/model_{folder}_config.json")["config"]
        return {name: self._tensor(folder, payload) for name, payload in config.items()}

    def _member(self, name: str) -> zipfile.ZipInfo:
        info = self._archive.getinfo(f"{self._root}/{name}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return info

    def _tensor(self, folder: str, payload: dict[str, Any]) -> torch.Tensor:
        if payload["use_pickle"]:
            raise ValueError(f"{payload['path_name']} is pickled, which could run code")
        meta = payload["tensor_meta"]
        import torch

        flat = self._storage(f"data/{folder}/{payload['path_name']}").view(dtype_of(meta["dtype"]))
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        return torch.as_strided(flat, sizes, strides, meta["storage_offset"]["as_int"])

    def _storage(self, name: str) -> torch.Tensor:
        import torch

        if name not in self._storages:
            info = self._member(name)
            storage = torch.empty(info.file_size, dtype=torch.uint8)
            with self._archive.open(info) as stream:
                if info.file_size and stream.readinto(storage.numpy().data) != info.file_size:  # type: ignore[attr-defined]
                    raise ValueError(f"{name} is cut short")
            self._storages[name] = storage
        return self._storages[name]


class Parsed(NamedTuple):
    """What a program's JSON says: its stored values as (name in the graph, kind, name in the module), then what it takes and gives."""

    nodes: list[dict[str, Any]]
    values: dict[str, Any]
    stored: list[tuple[str, str, str]]
    given: list[str]
    taken: list[str]


def parsed(content: dict[str, Any]) -> Parsed:
    if content["schema_version"]["major"] != SCHEMA:
        raise ValueError(f"schema version {content['schema_version']['major']}, this reader knows {SCHEMA}")
    source, signature = content["graph_module"]["graph"], content["graph_module"]["signature"]
    stored: list[tuple[str, str, str]] = []
    given: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, body),) = spec.items()
        name = (body["arg"]["as_tensor"] if kind == "user_input" else body["arg"])["name"]
        if kind == "user_input":
            given.append(name)
        elif given:
            raise ValueError("weights stand after inputs")
        else:
            stored.append((name, *_place(kind, body)))
    taken = [_only(spec, "user_output")["arg"]["as_tensor"]["name"] for spec in signature["output_specs"]]
    return Parsed(source["nodes"], source["tensor_values"], stored, given, taken)


def _place(kind: str, body: dict[str, Any]) -> tuple[str, str]:
    """Where a stored value lies (``weights`` or ``constants``), and under which name."""
    if kind == "parameter":
        return "weights", body["parameter_name"]
    if kind == "buffer":
        return "weights" if body["persistent"] else "constants", body["buffer_name"]
    if kind == "tensor_constant":
        return "constants", body["tensor_constant_name"]
    raise ValueError(f"an input of kind {kind}, which is not a tensor")


def _program(archive: Archive) -> Program:
    import torch.fx

    found = parsed(archive.json("models/model.json"))
    stored = {folder: archive.tensors(folder) for folder in ("weights", "constants")}
    names = archive.json(f"extra/{NAMES}") if archive.has(f"extra/{NAMES}") else {}
    graph = torch.fx.Graph()
    places = [name for name, _, _ in found.stored] + found.given
    scope: dict[str, Any] = {name: graph.placeholder(f"v{index}") for index, name in enumerate(places)}
    Builder(graph).nodes(found.nodes, scope)
    graph.output(tuple(scope[name] for name in found.taken))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    weights = [stored[folder][name] for _, folder, name in found.stored]
    inputs, outputs = (specs(used, found.values, names.get(side)) for used, side in ((found.given, "inputs"), (found.taken, "outputs")))
    return Program(module.forward, weights, inputs, outputs)


class Builder:
    """Writes nodes of the JSON into an fx graph."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self._graph = graph

    def nodes(self, nodes: list[dict[str, Any]], scope: dict[str, Any]) -> None:
        for node in nodes:
            target = node["target"]
            if target.startswith("torch.ops.higher_order."):
                result = self._region(target, [entry["arg"] for entry in node["inputs"]], scope)
            else:
                args = tuple(self._value(entry["arg"], scope) for entry in node["inputs"] if entry["kind"] == _POSITIONAL)
                kwargs = {entry["name"]: self._value(entry["arg"], scope) for entry in node["inputs"] if entry["kind"] != _POSITIONAL}
                result = self._graph.call_function(_function(target), args, kwargs)
            self._bind(node["outputs"], result, scope)

    def _region(self, target: str, arguments: list[dict[str, Any]], scope: dict[str, Any]) -> Any:
        """Write the body of a region in place; the runner computes without gradients and without autocast anyway."""
        kind = target.rpartition(".")[2]
        settings = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
        if kind not in settings:
            raise ValueError(f"asks for the operator {kind}, which the runner does not have")
        if kind == "wrap_with_autocast" and arguments[2].get("as_bool") is not False:
            raise ValueError("asks for autocast, which the runner does not have")
        body = arguments[settings[kind]]["as_graph"]["graph"]
        inner = dict(zip((_name(entry) for entry in body["inputs"]), (self._value(a, scope) for a in arguments[settings[kind] + 1 :])))  # noqa: B905
        self.nodes(body["nodes"], inner)
        return [self._value(entry, inner) for entry in body["outputs"]]

    def _bind(self, outputs: list[dict[str, Any]], result: Any, scope: dict[str, Any]) -> None:
        if len(outputs) == 1 and not isinstance(result, list):
            self._bind_one(outputs[0], result, scope)
            return
        for index, output in enumerate(outputs):
            self._bind_one(output, self._item(result, index), scope)

    def _bind_one(self, output: dict[str, Any], result: Any, scope: dict[str, Any]) -> None:
        if "as_none" in output:
            return
        if "as_tensors" in output:
            for index, entry in enumerate(output["as_tensors"]):
                scope[entry["name"]] = self._item(result, index)
        else:
            scope[_name(output)] = result

    def _item(self, result: Any, index: int) -> Any:
        return result[index] if isinstance(result, list) else self._graph.call_function(operator.getitem, (result, index))

    def _value(self, argument: dict[str, Any], scope: dict[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_name":
            return scope[value]
        if kind == "as_tensor":
            return scope[value["name"]]
        if kind == "as_tensors":
            return [scope[entry["name"]] for entry in value]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
            return self._value(value, scope)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"):
            return [self._value(entry, scope) for entry in value]
        return _constant(kind, value)


def _constant(kind: str, value: Any) -> Any:
    import torch

    simple: dict[str, Callable[[Any], Any]] = {"as_int": int, "as_float": float, "as_bool": bool, "as_string": str}
    if kind in simple:
        return simple[kind](value)
    if kind.endswith("s") and kind[:-1] in simple:
        return [simple[kind[:-1]](entry) for entry in value]
    if kind == "as_scalar_type":
        return dtype_of(value)
    if kind == "as_device":
        return torch.device("cpu")
    if kind == "as_layout" and value == _STRIDED:
        return torch.strided
    if kind == "as_memory_format":
        return getattr(torch, _MEMORY_FORMATS[value])
    raise ValueError(f"an argument of kind {kind.replace('as_', '')}, which the runner does not take")


def _function(target: str) -> Callable[..., Any]:
    """Return the function that a node names: an ATen operator, or arithmetic on sizes."""
    import torch

    if target in _ON_SIZES:
        return _ON_SIZES[target]
    if target in _TORCH_ON_SIZES:
        function: Callable[..., Any] = getattr(torch, target.partition(".")[2])
        return function
    match = _ATEN.fullmatch(target)
    if match and match[1] not in _READS_FILES:
        found = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
        if isinstance(found, type(torch.ops.aten.add.Tensor)):
            return found
    raise ValueError(f"asks for the operator {target.replace('torch.ops.', '')}, which the runner does not have")


def specs(used: list[str], values: dict[str, Any], named: dict[str, list[Any]] | None) -> tuple[Tensor, ...]:
    """Describe inputs or outputs: element types and fixed sizes from the graph, names and symbols from the extra file."""
    described = []
    for index, name in enumerate(used):
        sizes = [size.get("as_int", symbol(axis)) for axis, size in enumerate(values[name]["sizes"])]
        title = name
        if named is not None:
            title, symbols = list(named.items())[index]
            sizes = [known if isinstance(known, int) else str(symbols[axis]) for axis, known in enumerate(sizes)]
        described.append(Tensor(title, _DTYPES[values[name]["dtype"]], tuple(sizes)))
    return tuple(described)


def dtype_of(code: int) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, _DTYPES[code])
    return found


def _name(argument: dict[str, Any]) -> str:
    """Name of the value that an output or a region's input stands for."""
    ((_, value),) = argument.items()
    name = value.get("name") or value["as_name"]
    return str(name)


def _only(spec: dict[str, Any], kind: str) -> dict[str, Any]:
    ((found, body),) = spec.items()
    if found != kind:
        raise ValueError(f"the model changes its own state ({found.replace('_', ' ')})")
    inner: dict[str, Any] = body
    return inner
