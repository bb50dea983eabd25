"""What a bundle says of itself: checked key by key before anything is done with it."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from . import archive, canonical, shape, trust
from .refusal import Refused

NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
PATH = rf"{_SEGMENT}(/{_SEGMENT}){{0,5}}"
"""ASCII letters only, so no two names look alike or become one on a disk that normalizes; no dot in front, so nothing climbs or hides."""
VERSION = r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}"
_DECIMAL = r"0\.[0-9]{1,9}"
LARGEST_TOLERANCE = 0.1
"""Share of an output's range beyond which a self-test would pass whatever comes."""
TOTAL_LIMIT = 1 << 36
_FEATURE = r"[a-z0-9_]{1,32}"
RUNTIMES = ("onnxruntime", "openvino", "litert", "tflite_runtime", "pytorch")

_MANIFEST = shape.fields(
    {
        "type": shape.exactly("edgekit-bundle"),
        "schema": shape.exactly(1),
        "name": shape.text(NAME),
        "version": shape.number(1),
        "label": shape.maybe(shape.text(r"[ -~]{1,80}")),
        "expires": shape.maybe(shape.text(trust.DATE)),
        "agent": shape.number(1),
        "target": shape.fields(
            {
                "name": shape.text(r"[A-Za-z0-9._-]{1,64}"),
                "architectures": shape.listed(shape.text(_FEATURE), 1, 8),
                "features": shape.listed(shape.text(_FEATURE)),
                "memory_mb": shape.maybe(shape.number(1)),
            }
        ),
        "runtime": shape.fields(
            {
                "name": shape.one_of(*RUNTIMES),
                "at_least": shape.text(VERSION),
                "below": shape.text(VERSION),
                "threads": shape.number(1, 256),
                "precision": shape.one_of("f32", "bf16"),
            }
        ),
        "tensorrt": shape.maybe(shape.fields({"flags": shape.listed(shape.text(r"--[A-Za-z0-9=:,._-]{1,200}"), 0, 16)})),
        "model": shape.text(PATH, 99),
        "runner": shape.text(PATH, 99),
        "selftest": shape.fields(
            {
                "samples": shape.text(PATH, 99),
                "count": shape.number(1, 256),
                "tolerance": shape.text(_DECIMAL),
                "latency_us": shape.maybe(shape.number(1)),
                "memory_kb": shape.maybe(shape.number(1)),
                "timeout_s": shape.number(1, 3600),
            }
        ),
        "files": shape.mapped(
            shape.text(PATH, 99),
            shape.fields({"size": shape.number(0, archive.FILE_LIMIT), "sha256": shape.text(r"[0-9a-f]{64}")}),
            1,
            4096,
        ),
        "provenance": shape.anything,
    }
)


class Manifest(NamedTuple):
    """A manifest whose shape has been checked; whether to trust it is another question."""

    content: dict[str, Any]
    data: bytes

    @property
    def name(self) -> str:
        """Name of the model on the device."""
        found: str = self.content["name"]
        return found

    @property
    def version(self) -> int:
        """Counter that only goes up."""
        found: int = self.content["version"]
        return found

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size and digest by path."""
        found: dict[str, dict[str, Any]] = self.content["files"]
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, hence of everything in the bundle."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def slot(self) -> str:
        """Folder that holds the bundle on a device."""
        return f"{self.version}-{self.digest[:12]}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry["size"] for entry in self.files.values())


def parse(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        Refused: ``format``.
    """
    content = canonical.decode(data, archive.MANIFEST)
    _MANIFEST(content, "manifest")
    found = Manifest(content, data)
    _distinct(found)
    for role in (content["model"], content["runner"], content["selftest"]["samples"]):
        if role not in found.files:
            raise Refused("format", f"the manifest names {role!r} and does not list it")
    if not 0 < float(content["selftest"]["tolerance"]) <= LARGEST_TOLERANCE:
        limit = f"{LARGEST_TOLERANCE:g}"
        raise Refused("selftest", f"a self-test with tolerance {content['selftest']['tolerance']} tests nothing; {limit} is the most")
    if found.size > TOTAL_LIMIT:
        raise Refused("format", f"the bundle would unpack to {found.size} bytes")
    return found


def _distinct(manifest: Manifest) -> None:
    """Refuse names that are one on a disk that ignores case, and files that would have to be folders."""
    seen: dict[str, str] = {}
    for path in manifest.files:
        folded = path.lower()
        if folded in seen or folded in archive.ENVELOPE:
            raise Refused("format", f"{path!r} and {seen.get(folded, folded)!r} are one name")
        seen[folded] = path
    for folded in seen:
        parts = folded.split("/")
        for count in range(1, len(parts)):
            if "/".join(parts[:count]) in seen:
                raise Refused("format", f"{seen[folded]!r} lies below a file")
