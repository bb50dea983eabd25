"""Holds an inspected model against a target: what stops it there, and what runs in another precision than the file says."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from edgekit.core.target import Backend, Target, family
from edgekit.inspection.model import BackendFit, Concern, Inspection, LayerInfo, TargetFit

if TYPE_CHECKING:
    Check = Callable[[Inspection, Target, Backend], Concern | None]

_FLOATS = ("fp64", "fp32", "fp16", "bf16")


def fit(found: Inspection, target: Target) -> TargetFit:
    """Compare a model with every runtime of a target that loads its format."""
    backends = [backend for backend in target.backends if backend.format == found.format]
    if not backends:
        return TargetFit(target=target.name, backends=(), problem=_no_backend(found, target))
    judged = [
        BackendFit(runtime=b.runtime, concerns=tuple(c for check in _CHECKS if (c := check(found, target, b)) is not None))
        for b in backends
    ]
    return TargetFit(target=target.name, backends=tuple(judged))


def _no_backend(found: Inspection, target: Target) -> str:
    formats = ", ".join(dict.fromkeys(backend.format for backend in target.backends))
    if any(layer.operator for layer in found.layers):
        return f"{target.name} loads {formats}, not {found.format}"
    return f"a checkpoint runs nowhere by itself; {target.name} loads {formats}: edgekit compress {found.path} --target {target.name}"


def _memory(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    needed = max(found.size, found.memory or 0)
    if target.memory_mb is None or needed <= target.memory_mb << 20:
        return None
    what = "the file has" if needed == found.size else "weights and activations take about"
    return Concern(severity="stops", message=f"{what} {needed >> 20} MiB, the device {target.memory_mb} MiB of memory")


def _operators(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    refused = [layer for layer in found.layers if any(fnmatchcase(layer.operator, pattern) for pattern in backend.unsupported)]
    if not refused:
        return None
    kinds = ", ".join(dict.fromkeys(layer.operator for layer in refused))
    return _concern("stops", f"{backend.runtime} does not read {kinds}", refused)


def _foreign(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    """Operators outside the sets that the runtimes bring: custom ones, and ONNX domains of others."""
    foreign = [layer for layer in found.layers if layer.operator.startswith("custom:") or _domain(found, layer) not in _DOMAINS]
    if not foreign:
        return None
    kinds = ", ".join(dict.fromkeys(layer.operator for layer in foreign))
    return _concern("stops", f"{backend.runtime} has no {kinds}; it needs a library of its own", foreign)


def _domain(found: Inspection, layer: LayerInfo) -> str:
    return layer.operator.rpartition(".")[0] if found.format == "onnx" else ""


_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def _no_integer_form(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    """Layers of a float model that int8 would leave in float: recurrent ones have no integer form in any of the runtimes here."""
    if found.quantization is not None or backend.int8 is None:
        return None
    floats = [layer for layer in found.layers if layer.computes and any(word in layer.operator.upper() for word in _RECURRENT)]
    return _concern("slows", "recurrent layers have no int8 kernels and stay in float", floats) if floats else None


_RECURRENT = ("LSTM", "GRU", "RNN")


def _opset(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    if backend.opset is None or found.opset is None or found.opset <= backend.opset:
        return None
    release = backend.version or backend.runtime
    return Concern(severity="stops", message=f"{release} reads operators up to opset {backend.opset}, the file has opset {found.opset}")


def _no_int8(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    if backend.int8 is not None:
        return None
    layers = [layer for layer in found.layers if layer.computes and layer.precision == "int8"]
    return _concern("slows", f"no int8 kernels in {backend.runtime} here, int8 layers are computed in float", layers) if layers else None


def _scheme(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    scheme, quantization = backend.int8, found.quantization
    if scheme is None or quantization is None or quantization.kind != "static":
        return None
    severity = "stops" if scheme.symmetric else "slows"
    others = [kind for kind in quantization.activations if kind != scheme.activations]
    if others:
        return _concern(severity, f"activations are {', '.join(others)}, the fast int8 kernels take {scheme.activations}")
    if scheme.symmetric and quantization.symmetric is False:
        return _concern("stops", "activations have zero points other than 0, the int8 kernels take 0 only")
    return None


def _saturation(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    quantization = found.quantization
    if backend.int8 is None or not backend.int8.reduce_range or quantization is None or not quantization.full_range:
        return None
    if quantization.kind == "weights" or quantization.activations == ("int8",):
        return None
    return _concern("stops", "weights use all 8 bits; without VNNI the kernels' 16-bit sums can saturate: quantize for this target")


def _precision(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    stored = {layer.precision.split()[0] for layer in found.layers if layer.computes and layer.precision}
    known = {*_FLOATS, *(family(precision) for precision in backend.precisions)}
    missing = sorted(p for p in stored & known if p in _FLOATS and p not in backend.precisions)
    if not missing:
        return None
    layers = [layer for layer in found.layers if layer.computes and layer.precision.split()[:1] == missing[:1]]
    return _concern("slows", f"{backend.runtime} has no {', '.join(missing)} here", layers)


def _float_layers(found: Inspection, target: Target, backend: Backend) -> Concern | None:
    computing = [layer for layer in found.layers if layer.computes and layer.precision]
    floats = [layer for layer in computing if layer.precision in _FLOATS]
    if found.quantization is None or not floats:
        return None
    return _concern("slows", f"{len(floats)} of {len(computing)} computing layers stay in float", floats)


def _concern(severity: str, message: str, layers: list[LayerInfo] | None = None) -> Concern:
    return Concern.model_validate({"severity": severity, "message": message, "layers": tuple(layer.name for layer in layers or [])})


_CHECKS: tuple[Check, ...] = (
    _memory,
    _operators,
    _foreign,
    _opset,
    _no_integer_form,
    _scheme,
    _saturation,
    _no_int8,
    _precision,
    _float_layers,
)
