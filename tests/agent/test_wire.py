from __future__ import annotations

import io
import os

import pytest

from edgekit.agent import wire


def test_a_frame_comes_out_as_it_went_in():
    stream = io.BytesIO()
    wire.send(stream, {"command": "more"}, b"\0\xff" * 100)
    wire.send(stream, {"command": "finish"})
    stream.seek(0)
    assert wire.receive(stream) == ({"command": "more"}, b"\0\xff" * 100)
    assert wire.receive(stream) == ({"command": "finish"}, b"")
    assert wire.receive(stream) is None


@pytest.mark.parametrize(
    "data",
    [
        b"E",
        b"HTTP/1.1 200",
        b"EDKA\xff\xff\xff\xff\0\0\0\0",
        b"EDKA\2\0\0\0\xff\xff\xff\xff",
        b"EDKA\2\0\0\0\0\0\0\0{",
        b"EDKA\2\0\0\0\0\0\0\0[]",
        b"EDKA\1\0\0\0\0\0\0\0x",
    ],
)
def test_what_is_no_frame(data):
    with pytest.raises(wire.WireError):
        wire.receive(io.BytesIO(data))


def test_a_body_that_is_too_large_is_not_sent():
    with pytest.raises(wire.WireError, match="a frame of"):
        wire.send(io.BytesIO(), {}, bytes(wire.BODY_LIMIT + 1))


def test_a_line_puts_pieces_together_and_is_given_up_when_nothing_comes():
    source, sink = os.pipe()
    try:
        line = wire.Line(source, 0.05)
        for piece in (b"ab", b"cde"):
            os.write(sink, piece)
        assert (line.read(4), line.read(1)) == (b"abcd", b"e")
        with pytest.raises(wire.WireError, match=r"nothing came for 0\.05 s"):
            line.read(1)
        os.write(sink, b"f")
        os.close(sink)
        assert line.read(2) == b"f"
    finally:
        os.close(source)
