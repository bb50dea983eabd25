"""Makes bundles and roots byte by byte, good ones and forged ones, and a device that is a folder with a light self-test."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgekit.agent import archive, canonical, disk, install
from edgekit.agent.refusal import Refused
from edgekit.agent.slots import Model


class Signer:
    """A key that is the same in every run."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self._key.public_key().public_bytes_raw()
        self.id = hashlib.sha256(self.public).hexdigest()

    def sign(self, message: bytes) -> str:
        return self._key.sign(message).hex()


ALICE, BOB, CAROL, MALLORY = map(Signer, (1, 2, 3, 4))
PROBE = {
    "architecture": "x86_64",
    "features": ["avx2", "sse2"],
    "memory_mb": 1024,
    "runtimes": {"onnxruntime": "1.31.1", "numpy": "2.4.6"},
}


def sign(message: bytes, signers: Iterable[Signer]) -> dict[str, str]:
    return {signer.id: signer.sign(message) for signer in signers}


def root(
    version: int = 1,
    *,
    root_keys: Sequence[Signer] = (ALICE,),
    bundle_keys: Sequence[Signer] = (ALICE,),
    thresholds: tuple[int, int] = (1, 1),
    revoked: Sequence[Signer] = (),
    expires: str | None = None,
    signers: Sequence[Signer] | None = None,
) -> dict[str, Any]:
    signed = {
        "type": "edgekit-root",
        "schema": 1,
        "version": version,
        "expires": expires,
        "keys": {key.id: key.public.hex() for key in (*root_keys, *bundle_keys)},
        "root": {"keys": sorted({key.id for key in root_keys}), "threshold": thresholds[0]},
        "bundle": {"keys": sorted({key.id for key in bundle_keys}), "threshold": thresholds[1]},
        "revoked": sorted(key.id for key in revoked),
    }
    return {"signed": signed, "signatures": sign(canonical.encode(signed), root_keys if signers is None else signers)}


def contents(version: int = 1, model: bytes = b"model ") -> dict[str, bytes]:
    """Files of a toy bundle; two of them have one content."""
    return {
        "agent.pyz": b"runner" * 50,
        "io.json": b"{}\n",
        "labels.txt": b"{}\n",
        "model/toy.onnx": model + b"%d " % version * 300,
        "selftest/samples.frames": b"samples",
    }


def manifest(files: Mapping[str, bytes], **changes: Any) -> dict[str, Any]:
    told = {
        "type": "edgekit-bundle",
        "schema": 1,
        "name": "toy",
        "version": 1,
        "label": None,
        "expires": None,
        "agent": 1,
        "target": {"name": "host", "architectures": ["x86_64"], "features": ["avx2"], "memory_mb": None},
        "runtime": {"name": "onnxruntime", "at_least": "1.31", "below": "2", "threads": 1, "precision": "f32"},
        "tensorrt": None,
        "model": "model/toy.onnx",
        "runner": "agent.pyz",
        "selftest": {
            "samples": "selftest/samples.frames",
            "count": 1,
            "tolerance": "0.02",
            "latency_us": None,
            "memory_kb": None,
            "timeout_s": 60,
        },
        "files": {path: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()},
        "provenance": {},
    }
    for key, value in changes.items():
        told[key] = {**told[key], **value} if isinstance(value, dict) and isinstance(told.get(key), dict) and key != "files" else value
    return told


def pack(told: Mapping[str, Any], files: Mapping[str, bytes], signers: Iterable[Signer], roots: Sequence[Any] = ()) -> bytes:
    data = canonical.encode(dict(told))
    front = archive.Envelope(data, canonical.encode({"roots": list(roots)}), canonical.encode(sign(data, signers)))
    sink = io.BytesIO()
    archive.write(sink, front, ((path, len(files[path]), [files[path]]) for path in sorted(files)))
    return sink.getvalue()


def bundle(
    version: int = 1,
    *,
    signers: Sequence[Signer] = (ALICE,),
    roots: Sequence[Any] = (),
    files: Mapping[str, bytes] | None = None,
    model: bytes = b"model ",
    **changes: Any,
) -> bytes:
    inside = contents(version, model) if files is None else files
    return pack(manifest(inside, version=version, **changes), inside, signers, roots)


def light_test(slot: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Stands for a model in its runtime: reads the file that the manifest names, and fails on a bad one."""
    if (slot / content["model"]).read_bytes().startswith(b"bad"):
        raise Refused("selftest", "outputs differ")
    return {"deviation": 0.0}


class Device:
    """A folder that is a device."""

    def __init__(self, home: Path, *, trusted: Any = None, probe: Mapping[str, Any] = PROBE) -> None:
        self.home = home
        self.probe = dict(probe)
        if trusted is not None:
            self.installer().enrol(trusted)

    def installer(self, test: Callable[[Path, Mapping[str, Any]], dict[str, Any]] = light_test) -> install.Installer:
        return install.Installer(self.home, test=test, probe=lambda home: self.probe)

    def flash(self, data: bytes, *, good: bool = False) -> dict[str, Any]:
        disk.make_folder(self.home)
        with disk.alone(self.home / "lock"):
            answer = install.install_file(self.installer(), io.BytesIO(data))
            if good:
                self.open().approve()
        return answer

    def open(self, name: str = "toy") -> Model:
        return Model.open(self.home, name)

    def serves(self, name: str = "toy") -> int:
        """What an application finds that knows nothing of the agent: version of a model that is whole."""
        current = self.home / "models" / name / "current"
        told = canonical.decode((current / "manifest.json").read_bytes(), "manifest")
        for path, entry in told["files"].items():
            assert hashlib.sha256((current / path).read_bytes()).hexdigest() == entry["sha256"], path
        return int(told["version"])

    def tree(self) -> dict[str, Any]:
        """Every path with its content, links with their target."""
        return {
            path.relative_to(self.home).as_posix(): path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            for path in sorted(self.home.rglob("*"))
        }
