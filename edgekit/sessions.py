"""Where a model file runs: which runtime, in which process, with which packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.core.errors import SourceError
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.core.registry import create
from edgekit.core.store import package_version
from edgekit.runner.runtimes import runtime_class

ENVIRONMENTS = {"tflite_runtime": ("tflite-runtime==2.14.0", "numpy==1.26.4")}
"""Runtimes that can't share edgekit's environment, with the packages of their own."""
NATIVE = {"torch": "pytorch", "onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}
"""Runtime in which a model of a format runs as it came."""
FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".xml": "openvino", ".pt2": "torch"}
"""Format of a model file, by suffix."""


def host_of(runtime: str, *, fresh: bool) -> Host:
    """Choose where a runtime runs: its own environment if it needs one, else a fresh process or this one."""
    if runtime in ENVIRONMENTS:
        return create(Host, {"use": "venv", "packages": ENVIRONMENTS[runtime]}, "host")
    return create(Host, "fresh_process" if fresh else "in_process", "host")


def open_session(model: Path, runtime: str, settings: RuntimeSettings, *, fresh: bool) -> Session:
    """Load a model file in a runtime."""
    return host_of(runtime, fresh=fresh).open(model, runtime, settings)


def runtime_packages(runtime: str) -> tuple[str, ...]:
    """Distributions whose versions decide what a runtime computes."""
    return runtime_class(runtime).PACKAGES


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the installed ones among some distributions."""
    found = {name: package_version(name) for name in names}
    return {name: version for name, version in found.items() if version != "absent"}


def companions(file: Path) -> list[str]:
    """Names of the files that belong to a model file, relative to it.

    Raises:
        SourceError: the weights beside an OpenVINO model are missing.
    """
    if file.suffix == ".onnx":
        from edgekit.sources.onnx import external_files, read_graph

        return external_files(read_graph(file), file)
    if file.suffix != ".xml":
        return []
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise SourceError(f"{file}: its weights {weights.name} are missing", hint=f"put {weights.name} beside the model")
    return [weights.name]
