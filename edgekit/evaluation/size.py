"""Size of a model: as it lies on disk, and as it travels."""

from __future__ import annotations

from edgekit.core.artifacts import Artifact
from edgekit.core.report import Size

LEVEL = 3
"""Zstandard's default. Quantized weights hardly shrink further at higher levels, which take a minute for 90 MB."""
_CHUNK = 1 << 20


def size_of(artifact: Artifact) -> Size:
    """Return the bytes of all files of an artefact, raw and compressed with Zstandard (RFC 8878) as one stream.

    Memory does not grow with the size.
    """
    import zstandard

    raw = artifact.size
    packer = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    packed = 0
    for path in artifact.files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                packed += len(packer.compress(chunk))
    packed += len(packer.flush())
    return Size(raw=raw, zstd=packed)
