"""Finds what can go together: channels, attention heads and blocks of a network, on torch-pruning's dependency graph.

The graph follows tensors from layer to layer, but not every reshape, slice or padding. So each group is proved before it is offered:
without one of its channels the network must compute what it computes when the layers that read this channel are blind to it.

Reference: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv:2301.12900).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.core.modules import tensors
from edgekit.passes._engine import predictions
from edgekit.passes.prune.surgery import Cut, channel_axis, channels_of, mixes_channels, perform_cut

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch

HEADS = ("num_attention_heads", "num_heads", "n_heads")
"""Names under which attention modules keep the number of their heads."""
OF_ALL_HEADS = ("all_head_size",)
"""Names under which they keep the width of all heads together."""
Shapes = tuple[list[int], list[int]]
"""Shapes of what goes into a layer and of what comes out."""
_CLOSE = 1e-4


@dataclass(frozen=True)
class Member:
    """A side of a layer that a group runs through: for each of the group's units the layer's channels that belong to it."""

    layer: str
    side: str
    indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Group:
    """What has to go together.

    Attributes:
        name: the first layer that writes the channels.
        unit: ``channel`` or ``head``.
        size: number of units.
        members: every side of a layer that it runs through.
        attributes: numbers of modules that follow the number of units: module -> attribute -> share of one unit.
        block: the residual block that does nothing without this group; None where there is none.
        kind: equal for groups of the same layers and sizes, whose latency is the same.
    """

    name: str
    unit: str
    size: int
    members: tuple[Member, ...]
    attributes: dict[str, dict[str, int]]
    block: str | None = None
    kind: str = ""

    def sides(self, side: str) -> list[Member]:
        """Members of one side."""
        return [member for member in self.members if member.side == side]

    def cut(self, units: Sequence[int]) -> Cut:
        """Say what goes with some of its units."""
        if not units:
            return Cut()
        if len(units) == self.size and self.block is not None:
            return Cut(bypassed=[self.block])
        channels: dict[str, dict[str, list[int]]] = {}
        for member in self.members:
            channels.setdefault(member.layer, {})[member.side] = sorted(i for unit in units for i in member.indices[unit])
        left = self.size - len(units)
        attributes = {module: {name: share * left for name, share in values.items()} for module, values in self.attributes.items()}
        return Cut(channels, (), attributes)


def joined(cuts: Sequence[Cut]) -> Cut:
    """Join cuts of different groups; what lies in a bypassed block needs no cut of its own."""
    bypassed = [name for cut in cuts for name in cut.bypassed]
    channels: dict[str, dict[str, set[int]]] = {}
    attributes: dict[str, dict[str, int]] = {}
    for cut in cuts:
        for layer, sides in cut.channels.items():
            for side, indices in sides.items():
                channels.setdefault(layer, {}).setdefault(side, set()).update(indices)
        for module, values in cut.attributes.items():
            attributes.setdefault(module, {}).update(values)

    def stays(name: str) -> bool:
        return not any(name == block or name.startswith(f"{block}.") for block in bypassed)

    ordered = {
        layer: {side: sorted(found) for side, found in sorted(sides.items())} for layer, sides in sorted(channels.items()) if stays(layer)
    }
    return Cut(ordered, sorted(bypassed), {module: values for module, values in sorted(attributes.items()) if stays(module)})


def find_groups(module: torch.nn.Module, example: Batch) -> tuple[list[Group], dict[str, str]]:
    """Find the groups of a network, and the layers whose channels must stay, with the reason.

    Args:
        module: in evaluation mode; it is not changed.
        example: one sample.
    """
    inputs = _inputs(example)
    found, refused = _traced(module, inputs)
    groups = []
    for group in found:
        problem = _disproved(module, group, inputs)
        if problem:
            refused[group.name] = problem
        else:
            groups.append(group)
    shapes = layer_shapes(module, example)
    return [_described(module, group, inputs, shapes) for group in groups], refused


def _traced(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[list[Group], dict[str, str]]:
    """Follow tensors through a copy of the module and read off what hangs together."""
    import warnings

    import torch
    import torch_pruning

    traced = copy.deepcopy(module).eval().requires_grad_(True)
    names = {part: name for name, part in traced.named_modules()}
    shared = _shared(traced)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(
            traced, inputs, forward_fn=lambda model, given: list(predictions(model, given).values()), verbose=False
        )
    groups, refused = [], {}
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        candidates = list(graph.get_all_groups())
    order = {part: place for place, part in enumerate(names)}
    for candidate in candidates:
        writers = [item.dep.target.module for item in candidate if graph.is_out_channel_pruning_fn(item.dep.handler)]
        name = names[min((part for part in writers if part in names and mixes_channels(part)), key=order.__getitem__)]
        members = _members(graph, candidate, names)
        if isinstance(members, str):
            refused[name] = members
            continue
        if any(names[part] in shared for part in (item.dep.target.module for item in candidate) if part in names):
            refused[name] = "its weights are used by another layer too"
            continue
        if name in seen:
            continue
        seen.add(name)
        size = len(members[0].indices)
        groups.append(_by_heads(traced, Group(name, "channel", size, members, {})))
    places = {name: place for place, name in enumerate(names.values())}
    return sorted(groups, key=lambda group: places[group.name]), refused


def _members(graph: Any, candidate: Any, names: dict[torch.nn.Module, str]) -> tuple[Member, ...] | str:
    """Read a group's members, or say why its channels must stay."""
    import torch

    size = len(candidate[0].idxs)
    found: dict[tuple[str, str], dict[int, list[int]]] = {}
    for item in candidate:
        layer = item.dep.target.module
        if isinstance(layer, torch.nn.Parameter):
            return "a parameter of its own is added to its channels"
        if layer not in names:
            if type(layer).__name__ == "_OutputOp":
                return "the network's output depends on their number"
            continue
        writes = graph.is_out_channel_pruning_fn(item.dep.handler) or channel_axis(layer, "in") is None
        side = "out" if writes else "in"
        if channel_axis(layer, side) is None:
            if next(layer.parameters(), None) is None:
                continue
            return f"{names[layer]} ({type(layer).__name__}) can't lose channels"
        of_unit = found.setdefault((names[layer], side), {})
        for index, unit in zip(item.idxs, item.root_idxs, strict=True):
            if index not in of_unit.setdefault(unit, []):
                of_unit[unit].append(index)
    members = []
    for (name, side), of_unit in found.items():
        total = channels_of(next(part for part, known in names.items() if known == name), side)
        indices = [index for unit in of_unit.values() for index in unit]
        if set(of_unit) != set(range(size)) or len({len(unit) for unit in of_unit.values()}) != 1:
            return f"{name} does not take them one for one"
        if len(set(indices)) != len(indices) or max(indices) >= total or (side == "out" and len(indices) != total):
            return f"{name} does not take them one for one"
        members.append(Member(name, side, tuple(tuple(of_unit[unit]) for unit in range(size))))
    if not any(member.side == "in" for member in members):
        return "no layer reads them"
    return tuple(members)


def _shared(module: torch.nn.Module) -> set[str]:
    """Names of layers that share a parameter with another."""
    owners: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(name.rpartition(".")[0])
    return {name for layers in owners.values() if len(layers) > 1 for name in layers}


def _by_heads(module: torch.nn.Module, group: Group) -> Group:
    """Take the channels of attention by heads: all of a head go, or none."""
    parents = {member.layer.rpartition(".")[0] for member in group.sides("out")}
    for name in sorted(parents):
        parent = module.get_submodule(name)
        attribute = next((a for a in HEADS if isinstance(getattr(parent, a, None), int)), None)
        if attribute is None:
            continue
        heads = getattr(parent, attribute)
        if group.size % heads:
            continue
        width = group.size // heads
        members = tuple(
            replace(m, indices=tuple(sum(m.indices[h * width : (h + 1) * width], ()) for h in range(heads))) for m in group.members
        )
        values = {attribute: 1, **{a: width for a in OF_ALL_HEADS if getattr(parent, a, None) == group.size}}
        return replace(group, unit="head", size=heads, members=members, attributes={name: values})
    return group


def _disproved(module: torch.nn.Module, group: Group, inputs: dict[str, torch.Tensor]) -> str:
    """Take out one unit of a group and compare with a network that merely does not read it; say what is wrong, if anything is."""
    import torch

    if group.size < 2:
        return "it has a single channel"
    smaller = perform_cut(copy.deepcopy(module), group.cut([group.size // 2]))
    try:
        found = _outputs(smaller, inputs)
    except (RuntimeError, ValueError, IndexError, AssertionError) as problem:
        return f"the network fails without one of them ({str(problem).splitlines()[0][:80]})"
    wanted = _outputs(blinded(copy.deepcopy(module), group, [group.size // 2]), inputs)
    normed = any(isinstance(module.get_submodule(member.layer), torch.nn.LayerNorm) for member in group.members)
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            return "the network's output depends on their number"
        scale = float(value.abs().max()) or 1.0
        if not normed and float((found[name] - value).abs().max()) > _CLOSE * scale:
            return "the dependency graph misses something between its layers"
    return ""


def blinded(module: torch.nn.Module, group: Group, units: Sequence[int]) -> torch.nn.Module:
    """Set the weights that read some units of a group to zero, in place."""
    import torch

    with torch.no_grad():
        for member in group.sides("in"):
            layer: Any = module.get_submodule(member.layer)
            indices = torch.tensor([i for unit in units for i in member.indices[unit]])
            layer.weight.index_fill_(channel_axis(layer, "in"), indices, 0.0)
    return module


def _described(module: torch.nn.Module, group: Group, inputs: dict[str, torch.Tensor], shapes: dict[str, list[Shapes]]) -> Group:
    """Add the block that a group belongs to, and its kind."""
    block = _block(module, group, inputs)
    parts = []
    for member in sorted(group.members, key=lambda m: (m.layer, m.side)):
        layer = module.get_submodule(member.layer)
        form = [tuple(getattr(layer, a)) for a in ("kernel_size", "stride") if isinstance(getattr(layer, a, None), tuple)]
        parts.append(f"{member.side} of {type(layer).__name__} {shapes.get(member.layer)} {form}")
    return replace(group, block=block, kind=" | ".join([*sorted(parts), f"block {block is not None}"]))


def _block(module: torch.nn.Module, group: Group, inputs: dict[str, torch.Tensor]) -> str | None:
    """Name the smallest block of a sequence that holds the whole group, keeps its input's shape, and passes its input on without it."""
    import torch

    parts = [member.layer.split(".") for member in group.members]
    common = [level[0] for level in zip(*parts, strict=False) if len(set(level)) == 1]
    for depth in range(len(common), 0, -1):
        name = ".".join(common[:depth])
        parent = module.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, torch.nn.Sequential) and any(module.get_submodule(name).children()):
            break
    else:
        return None
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(_: torch.nn.Module, given: tuple[Any, ...], result: Any) -> None:
        if len(given) == 1 and isinstance(given[0], torch.Tensor) and isinstance(result, torch.Tensor):
            seen.append((given[0], result))

    without = blinded(copy.deepcopy(module), group, range(group.size))
    hook = without.get_submodule(name).register_forward_hook(note)
    _outputs(without, inputs)
    _outputs(without, {key: value.flip(-1) for key, value in inputs.items()})
    hook.remove()
    if len(seen) != 2 or any(given.shape != result.shape for given, result in seen):
        return None
    return None if torch.allclose(seen[0][1], seen[1][1]) else name


def layer_shapes(module: torch.nn.Module, example: Batch) -> dict[str, list[Shapes]]:
    """Shapes of what goes into and comes out of each layer for one sample, without the batch, call by call."""
    import torch

    found: dict[str, list[Shapes]] = {}
    hooks = []

    def watch(name: str) -> Any:
        def note(_: torch.nn.Module, given: tuple[Any, ...], result: Any) -> None:
            if given and isinstance(given[0], torch.Tensor) and isinstance(result, torch.Tensor):
                found.setdefault(name, []).append((list(given[0].shape[1:]), list(result.shape[1:])))

        return note

    for name, part in module.named_modules():
        if next(part.children(), None) is None:
            hooks.append(part.register_forward_hook(watch(name)))
    _outputs(module, _inputs(example))
    for hook in hooks:
        hook.remove()
    return found


def _outputs(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    import torch

    with torch.no_grad():
        return predictions(module, inputs)


def _inputs(example: Batch) -> dict[str, torch.Tensor]:
    return {name: tensors({name: array[:1]}, [name])[0] for name, array in example.items()}
