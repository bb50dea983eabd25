"""Checkpoints: safetensors by their header alone, pickled state dicts as tensors only."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from edgekit.core.errors import SourceError
from edgekit.inspection.model import Inspection, LayerInfo, precisions

_PRECISIONS = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
    **{f"{kind}int{bits}": f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": "bool",
}
_SAFETENSORS = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""Element types of the format with NumPy's (or PyTorch's) word and their bytes."""
HEADER_LIMIT = 100_000_000
"""Bytes of header that the format allows."""
_STATISTICS = ("running_mean", "running_var")
_FETCH = "compare its size and checksum with the original, or fetch it again"


def read(path: Path) -> Inspection:
    """Describe a state dict.

    Raises:
        SourceError: truncated, corrupt, or a pickle that asks for code.
    """
    if path.suffix.lower() == ".safetensors":
        tensors, notes = read_header(path)
        return _describe(path, "safetensors", [path], tensors, notes)
    from edgekit.core.weights import find_state, read_tensors

    state, notes = find_state(read_tensors(path), path)
    found = [(name, str(value.dtype).removeprefix("torch."), tuple(value.shape)) for name, value in state.items()]
    return _describe(path, "pytorch", [path], found, notes)


def read_folder(path: Path) -> Inspection:
    """Describe a folder that ``save_pretrained`` wrote.

    Raises:
        SourceError: no weights in it, or a damaged file.
    """
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = f"{config.get('model_type', '?')}: {', '.join(config.get('architectures') or ['?'])}"
    except (OSError, ValueError, AttributeError, TypeError) as problem:
        raise SourceError(f"{path / 'config.json'}: is not readable ({problem})", hint=_FETCH) from problem
    shards = sorted(path.glob("*.safetensors"))
    if not shards:
        pickled = next((p for p in (path / "pytorch_model.bin", path / "model.pth") if p.is_file()), None)
        if pickled is None:
            raise SourceError(f"{path}: has a config.json and no weights", hint="expected model.safetensors or pytorch_model.bin")
        return read(pickled).model_copy(update={"path": str(path), "producer": kind})
    tensors: list[tuple[str, str, tuple[int, ...]]] = []
    notes: list[str] = []
    for shard in shards:
        more, said = read_header(shard)
        tensors += more
        notes += [note for note in said if note not in notes]
    return _describe(path, "transformers", shards, tensors, notes).model_copy(update={"producer": kind})


def read_header(path: Path) -> tuple[list[tuple[str, str, tuple[int, ...]]], list[str]]:
    """Read names, element types and shapes of a safetensors file, and what its metadata says.

    Reference: the safetensors format, https://github.com/huggingface/safetensors#format

    Raises:
        SourceError: the header is no JSON of the format, or speaks of bytes that the file does not have.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_LIMIT, size - 8):
                raise ValueError(f"its header wants {length} bytes")
            header = json.loads(file.read(length).decode("utf-8"))
        metadata = header.pop("__metadata__", {})
        tensors = [(name, *_checked(entry, size - 8 - length)) for name, entry in header.items()]
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give a file that you may read") from problem
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise SourceError(f"{path}: is truncated or no safetensors file ({problem})", hint=_FETCH) from problem
    if not tensors:
        raise SourceError(f"{path}: holds no tensors", hint=_FETCH)
    notes = [f"metadata: {', '.join(f'{k}={v}' for k, v in sorted(metadata.items()))[:200]}"] if metadata else []
    return tensors, notes


def _checked(entry: dict[str, Any], available: int) -> tuple[str, tuple[int, ...]]:
    dtype, width = _SAFETENSORS[entry["dtype"]]
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError("negative or fractional sizes")
    if end > available or end - begin != math.prod(shape) * width:
        raise ValueError(f"a tensor of shape {list(shape)} ends at byte {end} of {available}")
    return dtype, shape


def _describe(path: Path, kind: str, files: list[Path], tensors: list[tuple[str, str, tuple[int, ...]]], notes: list[str]) -> Inspection:
    layers = [
        LayerInfo(name=name, operator="", shape=shape, parameters=math.prod(shape), precision=_PRECISIONS.get(dtype, dtype), computes=True)
        for name, dtype, shape in tensors
    ]
    statistics = sum(layer.parameters for layer in layers if layer.name.endswith(_STATISTICS))
    floats = [layer for layer in layers if layer.precision.startswith(("fp", "bf")) and not layer.name.endswith(_STATISTICS)]
    if statistics:
        notes = [*notes, f"{statistics} values are running statistics of BatchNorm and no parameters"]
    return Inspection(
        path=str(path),
        format=kind,
        size=sum(file.stat().st_size for file in files),
        files=tuple(file.name for file in files),
        parameters=sum(layer.parameters for layer in floats),
        precisions=precisions(layers),
        layers=tuple(layers),
        notes=tuple(notes),
    )
