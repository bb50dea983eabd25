"""The one file a bundle travels in: a plain tar in the only spelling that is accepted, so that nothing in it needs to be understood.

Every header is compared with the header that this module would have written for that name and size; whatever differs (a link, a device,
an owner, an extension, a compressed stream) is refused before it means anything. Files come in the order of the manifest, unpacked sizes
are what the signed manifest says, and nothing is compressed. Reference: POSIX.1-1988 ustar.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from . import canonical
from .refusal import Refused

BLOCK = 512
CHUNK = 1 << 20
MANIFEST, ROOTS, SIGNATURES = "manifest.json", "roots.json", "signatures.json"
ENVELOPE = (MANIFEST, ROOTS, SIGNATURES)
"""What stands in front, in this order, and is read before anything else."""
ENVELOPE_LIMIT = 1 << 20
FILE_LIMIT = 8**11 - 1
_SIZE = re.compile(rb"[0-7]{11}\0")


class Envelope(NamedTuple):
    """The front of a bundle: all that is read before signatures have been checked."""

    manifest: bytes
    roots: bytes
    signatures: bytes


def header(name: str, size: int) -> bytes:
    """The only header that a file of this name and size may have [512 bytes]."""
    block = bytearray(BLOCK)
    path = name.encode("ascii")
    if not 0 < len(path) < 100 or not 0 <= size <= FILE_LIMIT:
        raise ValueError(f"{name!r} with {size} bytes does not go into a bundle")
    block[: len(path)] = path
    for start, field in ((100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"), (124, b"%011o\0" % size), (136, b"00000000000\0")):
        block[start : start + len(field)] = field
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\00000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def write(sink: BinaryIO, envelope: Envelope, files: Iterable[tuple[str, int, Iterable[bytes]]]) -> None:
    """Write a bundle.

    Args:
        sink: where to.
        envelope: the front.
        files: path, size and content of each file, in the manifest's order.
    """
    for name, data in zip(ENVELOPE, envelope):  # noqa: B905 - strict needs Python 3.10
        _write_one(sink, name, len(data), [data])
    for name, size, chunks in files:
        _write_one(sink, name, size, chunks)
    sink.write(bytes(2 * BLOCK))


def _write_one(sink: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    sink.write(header(name, size))
    written = 0
    for chunk in chunks:
        sink.write(chunk)
        written += len(chunk)
    if written != size:
        raise ValueError(f"{name}: {written} bytes where {size} were announced")
    sink.write(bytes(-size % BLOCK))


def read_envelope(source: BinaryIO) -> Envelope:
    """Read the front of a bundle; the rest of the stream stays unread.

    Raises:
        Refused: ``format``: no bundle.
    """
    parts = []
    for name in ENVELOPE:
        size = _header(source, name)
        if size > ENVELOPE_LIMIT:
            raise Refused("format", f"{name} has {size} bytes, {ENVELOPE_LIMIT} at most are read")
        parts.append(_exactly(source, size))
        _padding(source, size)
    return Envelope(*parts)


def read_files(source: BinaryIO, listed: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield path and content of every file behind the front; each content has to be read to its end before the next.

    Args:
        source: stream behind :func:`read_envelope`.
        listed: the signed manifest's files.

    Raises:
        Refused: ``format``: a file that is missing, unlisted, out of order, of another size or another content.
    """
    for name in sorted(listed):
        size = _header(source, name)
        if size != listed[name]["size"]:
            raise Refused("format", f"{name} has {size} bytes, the manifest says {listed[name]['size']}")
        yield name, _content(source, name, size, listed[name]["sha256"])
        _padding(source, size)
    if _exactly(source, 2 * BLOCK) != bytes(2 * BLOCK) or source.read(1):
        raise Refused("format", "the bundle holds more than its manifest lists")


def _content(source: BinaryIO, name: str, size: int, sha256: str) -> Iterator[bytes]:
    sha = hashlib.sha256()
    while size:
        chunk = _exactly(source, min(size, CHUNK))
        size -= len(chunk)
        sha.update(chunk)
        if size == 0 and sha.hexdigest() != sha256:
            raise Refused("format", f"{name} is not the file that was signed")
        yield chunk
    if sha.hexdigest() != sha256:
        raise Refused("format", f"{name} is not the file that was signed")


def _header(source: BinaryIO, name: str) -> int:
    block = _exactly(source, BLOCK)
    size = int(block[124:135], 8) if _SIZE.fullmatch(block[124:136]) else -1
    if size < 0 or block != header(name, size):
        found = _printable(block[:100])
        what = f"{found!r} stands where {name!r} should" if found and found != name else f"{name} is not a plain file"
        raise Refused("format", f"this is no bundle, or a damaged one: {what}", "make it with edgekit bundle")
    return size


def _printable(field: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in field.rstrip(b"\0")[:60])


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise Refused("format", "the bundle is cut short", "copy it again")
    return data


def _padding(source: BinaryIO, size: int) -> None:
    if any(_exactly(source, -size % BLOCK)):
        raise Refused("format", "the bundle holds something between its files")


def decode_roots(data: bytes) -> list[Any]:
    """Read the chain of roots in a bundle's front.

    Raises:
        Refused: ``format``.
    """
    content = canonical.decode(data, ROOTS)
    roots = content.get("roots")
    if set(content) != {"roots"} or not isinstance(roots, list) or len(roots) > 64:
        raise Refused("format", f"{ROOTS} holds no list of roots")
    return roots
