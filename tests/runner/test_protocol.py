from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.runner import protocol
from edgekit.runner.contract import DTYPES


def stream(content: bytes, *, portion: int = 1 << 30) -> protocol.Fill:
    rest = memoryview(content)

    def fill(view: memoryview) -> int:
        nonlocal rest
        count = min(len(view), len(rest), portion)
        view[:count] = rest[:count]
        rest = rest[count:]
        return count

    return fill


def written(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    return b"".join(bytes(piece) for piece in protocol.pack(header, arrays))


def frame(header: object, *, length: int | None = None, magic: bytes = b"EDGE", rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sI", magic, len(text) if length is None else length) + text + rest


def described(*arrays: dict[str, object]) -> bytes:
    return frame({"protocol": 1, "arrays": list(arrays)})


ARRAYS = st.dictionaries(
    st.text(max_size=8),
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(arrays=ARRAYS, portion=st.integers(1, 64))
def test_frames_survive_any_portioning(arrays: dict[str, np.ndarray], portion: int) -> None:
    fill = stream(written({"command": "run"}, arrays) * 2, portion=portion)
    for _ in range(2):
        found = protocol.unpack(fill)
        assert found is not None
        header, back = found
        assert header["command"] == "run"
        assert list(back) == list(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype
            assert back[name].shape == array.shape
            assert back[name].tobytes() == array.tobytes()
            assert back[name].flags.writeable
    assert protocol.unpack(fill) is None


def test_any_memory_layout_travels_as_c_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    strange = {"f": np.asfortranarray(array), "cut": array[:, ::2], "big": array.astype(">f4")}
    found = protocol.unpack(stream(written({}, strange)))
    assert found is not None
    assert {name: back.tolist() for name, back in found[1].items()} == {name: a.tolist() for name, a in strange.items()}


HUGE = {"name": "x", "dtype": "float32", "shape": [1 << 40]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "no frame begins with b'GET '"),
        (frame({"protocol": 1}, length=0xFFFFFFFF), "header of 4294967295 bytes"),
        (frame(b"{not json"), "not JSON"),
        (frame(b"\xff\xfe"), "not JSON"),
        (frame(b"[" * 100_000), "not JSON"),
        (frame([1, 2]), "protocol None"),
        (frame({"protocol": 2, "arrays": []}), "protocol 2, this is 1"),
        (frame({"protocol": 1}), "not described"),
        (described({"name": "x", "dtype": "object", "shape": [1]}), "not described"),
        (described({"name": "x", "dtype": "float32", "shape": [-1]}), r"shape \(-1,\)"),
        (described({"name": "x", "dtype": "float32", "shape": [True]}), "shape"),
        (described({"name": "x", "dtype": "float32", "shape": [1.5]}), "shape"),
        (described({"name": 3, "dtype": "float32", "shape": [1]}), "array 3"),
        (described(HUGE), "at most 4294967296"),
        (described({**HUGE, "shape": [0, 1 << 62, 1 << 62]}), "can't be held"),
        (described({**HUGE, "shape": [1] * 100}), "can't be held"),
        (described({"name": "x", "dtype": "bool", "shape": []}, {"name": "x", "dtype": "bool", "shape": []}), "two arrays of one name"),
        (described({"name": "x", "dtype": "float32", "shape": [4]}) + b"1234567", "ended within a frame"),
        (b"EDG", "ended within a frame"),
        (frame({"protocol": 1, "arrays": []})[:-1], "ended within a frame"),
    ],
)
def test_malformed_frames_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=words):
        protocol.unpack(stream(content))


def test_unknown_types_do_not_travel() -> None:
    with pytest.raises(protocol.ProtocolError, match="type object can't travel"):
        protocol.pack({}, {"x": np.array([{}])})
    with pytest.raises(protocol.ProtocolError, match="a header of"):
        protocol.pack({"text": "x" * protocol.HEADER_LIMIT}, {})
