"""Writes a small TensorFlow SavedModel without TensorFlow: Protocol Buffers by hand, field numbers as in tensorflow/core/protobuf."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FLOAT = 1


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, content: bytes | str) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def entry(field: int, key: str, value: bytes) -> bytes:
    return chunk(field, chunk(1, key) + chunk(2, value))


def shape(*sizes: int) -> bytes:
    return b"".join(chunk(2, number(1, size)) for size in sizes)


def node(name: str, op: str, inputs: tuple[str, ...] = (), **attributes: bytes) -> bytes:
    parts = chunk(1, name) + chunk(2, op) + b"".join(chunk(3, i) for i in inputs)
    return chunk(1, parts + b"".join(entry(5, key, value) for key, value in attributes.items()))


def constant(name: str, values: np.ndarray) -> bytes:
    tensor = number(1, FLOAT) + chunk(2, shape(*values.shape)) + chunk(4, values.astype("<f4").tobytes())
    return node(name, "Const", dtype=number(6, FLOAT), value=chunk(8, tensor))


def write(folder: Path, weight: np.ndarray, activation: str = "Relu") -> Path:
    """Save ``y = activation(x @ weight)`` with a batch that varies."""
    kind = number(6, FLOAT)
    graph = node("x", "Placeholder", dtype=kind, shape=chunk(7, shape(-1, weight.shape[0]))) + constant("w", weight)
    graph += node("product", "MatMul", ("x", "w"), T=kind, transpose_a=number(5, 0), transpose_b=number(5, 0))
    graph += node("y", activation, ("product",), T=kind)
    ends = [number(2, FLOAT) + chunk(1, f"{name}:0") + chunk(3, shape(-1, size)) for name, size in zip("xy", weight.shape, strict=True)]
    signature = entry(1, "x", ends[0]) + entry(2, "y", ends[1]) + chunk(3, "tensorflow/serving/predict")
    meta = chunk(1, chunk(4, "serve")) + chunk(2, graph + chunk(4, number(1, 1087))) + entry(5, "serving_default", signature)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(number(1, 1) + chunk(2, meta))
    return folder
