"""Exported programs as modules: weights under their own names, inputs by name, sizes that every exporter can follow."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.runner.contract import Tensor, not_loadable
from edgekit.runner.runtimes._pt2 import NAMES, Archive, Builder, dtype_of, parsed, specs

if TYPE_CHECKING:
    import torch

_CHECKS = {"aten::_assert_tensor_metadata", "aten::_assert_scalar", "aten::sym_constrain_range_for_size"}
"""Operators that compute nothing."""
_SIZE = "aten::sym_size"


class Outline(NamedTuple):
    """A program without its weights.

    Attributes:
        program: the graph's JSON.
        names: names of inputs and outputs and of their axes, by side; empty where the file does not say.
    """

    program: dict[str, Any]
    names: dict[str, Any]


def outline(path: Path) -> tuple[Outline, dict[str, torch.Tensor]]:
    """Read an exported program as an outline and its stored tensors by name.

    Raises:
        RunnerError: ``model``: the file is damaged or holds pickled content.
    """
    try:
        with zipfile.ZipFile(path) as file:
            archive = Archive(file)
            found = Outline(archive.json("models/model.json"), archive.json(f"extra/{NAMES}") if archive.has(f"extra/{NAMES}") else {})
            stored = {folder: archive.tensors(folder) for folder in ("weights", "constants")}
            return found, {name: stored[folder][name] for _, folder, name in parsed(found.program).stored}
    except Exception as problem:  # a damaged file may lead anywhere
        raise not_loadable(path, problem) from problem


def ends(found: Outline) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Describe what an outline takes and gives."""
    program = parsed(found.program)
    inputs = specs(program.given, program.values, found.names.get("inputs"))
    return inputs, specs(program.taken, program.values, found.names.get("outputs"))


def as_module(found: Outline) -> torch.nn.Module:
    """Build the module that an outline describes, its weights still empty.

    Raises:
        ValueError: an operator that is not PyTorch's own.
    """
    import torch.fx

    program = parsed(found.program)
    inputs, outputs = ends(found)
    root, graph = torch.nn.Module(), torch.fx.Graph()
    scope: dict[str, Any] = {name: graph.placeholder(spec.name) for name, spec in zip(program.given, inputs, strict=True)}
    for name, folder, place in program.stored:
        meta = program.values[name]
        empty = torch.empty([size["as_int"] for size in meta["sizes"]], dtype=dtype_of(meta["dtype"]))
        _attach(root, place, empty, trainable=folder == "weights" and bool(meta.get("requires_grad")))
        scope[name] = graph.get_attr(place)
    Builder(graph).nodes(program.nodes, scope)
    _let_sizes_be_traced(graph)
    graph.output({spec.name: scope[name] for name, spec in zip(program.taken, outputs, strict=True)})
    graph.lint()
    return torch.fx.GraphModule(root, graph)


def _attach(root: torch.nn.Module, place: str, tensor: torch.Tensor, *, trainable: bool) -> None:
    import torch

    *way, name = place.split(".")
    for part in way:
        if part not in dict(root.named_children()):
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    if trainable:
        root.register_parameter(name, torch.nn.Parameter(tensor))
    else:
        root.register_buffer(name, tensor)


def _let_sizes_be_traced(graph: torch.fx.Graph) -> None:
    """Call what takes a size through PyTorch's Python functions: a trace does not see one that goes straight to an operator."""
    import torch

    sizes: set[torch.fx.Node] = set()
    for node in list(graph.nodes):
        schema = getattr(getattr(node.target, "_schema", None), "name", "")
        if schema in _CHECKS:
            graph.erase_node(node)
        elif schema == _SIZE:
            node.op, node.target = "call_method", "size"
            sizes.add(node)
        elif sizes.isdisjoint(node.all_input_nodes):
            continue
        elif not schema:
            sizes.add(node)
        elif schema == "aten::slice":
            data, axis, begin, end, *step = (*node.args, None, None)[: max(4, len(node.args))]
            node.op, node.target, node.args = "call_function", _sliced, (data, axis, begin, end, *(s for s in step if s is not None))
        else:
            name = schema.removeprefix("aten::")
            is_method = isinstance(node.args[0], torch.fx.Node) and node.args[0] not in sizes and hasattr(torch.Tensor, name)
            if is_method:
                node.op, node.target = "call_method", name
            elif hasattr(torch, name):
                node.target = getattr(torch, name)


def _sliced(data: torch.Tensor, axis: int, begin: int | None, end: int | None, step: int = 1) -> torch.Tensor:
    return data[(slice(None),) * (axis % data.dim()) + (slice(begin, end, step),)]
