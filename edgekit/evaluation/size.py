"""Size of a model: as it lies on disk, and as it travels."""

from __future__ import annotations

from edgekit.core.artifacts import Artifact
from edgekit.core.report import Size

LEVEL = 19
_CHUNK = 1 << 20
_LARGE = 64_000_000
"""Bytes from which several threads share the work; below, they would only cost memory. Their number does not change the result."""


def size_of(artifact: Artifact) -> Size:
    """Return the bytes of all files of an artefact, raw and compressed with Zstandard (RFC 8878) as one stream.

    Memory does not grow with the size.
    """
    import zstandard

    raw = artifact.size
    packer = zstandard.ZstdCompressor(level=LEVEL, threads=-1 if raw > _LARGE else 0).compressobj()
    packed = 0
    for path in artifact.files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                packed += len(packer.compress(chunk))
    packed += len(packer.flush())
    return Size(raw=raw, zstd=packed)
