"""Takes channels and blocks out of a network, as plain data says; so a pruned one is rebuilt without tracing and without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Side = Literal["in", "out"]


@dataclass(frozen=True)
class Cut:
    """What is taken out of a network.

    Attributes:
        channels: indices that go, by layer and side (``in``, ``out``); layers that treat each channel alone have ``out`` only.
        bypassed: blocks that become the identity.
        attributes: numbers that a module keeps beside its layers (``num_attention_heads``, say), with their new values.
    """

    channels: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    bypassed: Sequence[str] = ()
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @staticmethod
    def of(content: Mapping[str, Any]) -> Cut:
        """Read what :meth:`record` returned."""
        return Cut(content["channels"], content["bypassed"], content["attributes"])


def perform_cut(module: torch.nn.Module, cut: Cut) -> torch.nn.Module:
    """Take out what a cut names, in place."""
    import torch

    for name in cut.bypassed:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, torch.nn.Identity())
    for name, sides in cut.channels.items():
        for side, removed in sides.items():
            _shrink(module.get_submodule(name), side, sorted(removed))
    for name, values in cut.attributes.items():
        for attribute, value in values.items():
            setattr(module.get_submodule(name), attribute, value)
    return module


def channel_axis(layer: torch.nn.Module, side: str) -> int | None:
    """Axis of a layer's weight along which its channels of a side lie; None where this layer's channels can't be taken out."""
    import torch
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    if isinstance(layer, _ConvTransposeNd):
        return {"in": 0, "out": 1}[side] if layer.groups == 1 else None
    if isinstance(layer, _ConvNd):
        if is_depthwise(layer):
            return 0 if side == "out" else None
        return {"out": 0, "in": 1}[side] if layer.groups == 1 else None
    if isinstance(layer, torch.nn.Linear):
        return {"out": 0, "in": 1}[side]
    if isinstance(layer, torch.nn.Embedding):
        return 1 if side == "out" else None
    if side == "out" and (_is_norm(layer) or (isinstance(layer, torch.nn.PReLU) and layer.num_parameters > 1)):
        return 0
    return None


def mixes_channels(layer: torch.nn.Module) -> bool:
    """Whether a layer's outputs are sums over channels; norms and PReLU treat each alone, with weights or without."""
    import torch

    weight = getattr(layer, "weight", None)
    return isinstance(layer, torch.nn.MultiheadAttention) or (weight is not None and weight.dim() > 1)


def is_depthwise(layer: Any) -> bool:
    """Whether a convolution treats each channel alone."""
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == layer.in_channels == layer.out_channels)


def channels_of(layer: Any, side: str) -> int:
    """Number of a layer's channels of a side."""
    import torch

    axis = channel_axis(layer, side)
    if axis is None:
        raise ValueError(f"{type(layer).__name__} has no {side} channels to take out")
    if isinstance(layer, torch.nn.modules.batchnorm._NormBase):
        return int(layer.num_features)
    if isinstance(layer, torch.nn.LayerNorm):
        return int(layer.normalized_shape[0])
    return int(layer.weight.shape[axis])


def _is_norm(layer: torch.nn.Module) -> bool:
    import torch

    if isinstance(layer, torch.nn.LayerNorm):
        return len(layer.normalized_shape) == 1
    return isinstance(layer, torch.nn.modules.batchnorm._NormBase)


def _shrink(layer: Any, side: str, removed: Sequence[int]) -> None:
    """Take channels out of one layer."""
    import torch
    from torch.nn.modules.conv import _ConvNd

    axis, total = channel_axis(layer, side), channels_of(layer, side)
    gone = set(removed)
    kept = torch.tensor([index for index in range(total) if index not in gone])
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(layer, name, None)
        if value is None or (name == "bias" and side == "in"):
            continue
        smaller = value.detach().index_select(axis if name == "weight" else 0, kept.to(value.device)).clone()
        is_parameter = isinstance(value, torch.nn.Parameter)
        setattr(layer, name, torch.nn.Parameter(smaller, requires_grad=value.requires_grad) if is_parameter else smaller)
    size = len(kept)
    if isinstance(layer, _ConvNd):
        if is_depthwise(layer):
            layer.in_channels = layer.out_channels = layer.groups = size
        else:
            setattr(layer, f"{side}_channels", size)
    elif isinstance(layer, torch.nn.Linear):
        setattr(layer, f"{side}_features", size)
    elif isinstance(layer, torch.nn.Embedding):
        layer.embedding_dim = size
    elif isinstance(layer, torch.nn.LayerNorm):
        layer.normalized_shape = (size,)
    elif isinstance(layer, torch.nn.PReLU):
        layer.num_parameters = size
    else:
        layer.num_features = size
