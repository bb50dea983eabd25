"""Where a model file runs: which runtime, in which process, with which packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.core.errors import SourceError
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.core.registry import create
from edgekit.core.store import package_version
from edgekit.runner import RunnerError, assembly
from edgekit.runner.runtimes import runtime_class

ENVIRONMENTS = {"tflite_runtime": ("tflite-runtime==2.14.0", "numpy==1.26.4")}
"""Runtimes that can't share edgekit's environment, with the packages of their own."""
NATIVE = {"torch": "pytorch", "onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert"}
"""Runtime in which a model of a format runs as it came."""
FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".xml": "openvino", ".pt2": "torch"}
"""Format of a model file, by suffix."""


def format_of(file: Path) -> str:
    """Format of a model file that is there, or of the graphs that an assembly names.

    Raises:
        SourceError: no such file, or none that a runtime loads.
    """
    if file.suffix not in (*FORMATS, assembly.SUFFIX):
        raise SourceError(f"{file}: is no model file that a runtime loads", hint=f"give one of: {', '.join(FORMATS)}")
    if not file.is_file():
        raise SourceError(f"{file}: no such file", hint="check the path")
    return FORMATS[file.suffix] if file.suffix in FORMATS else format_of(_graphs(file)[0])


def _graphs(file: Path) -> list[Path]:
    try:
        return list(assembly.read(file)["components"].values())
    except RunnerError as problem:
        raise SourceError(f"{file}: {problem.message}", hint=problem.hint or "make it again with 'parts' in the recipe") from problem


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
    if file.suffix == assembly.SUFFIX:
        root = file.parent.resolve()
        found = [path for graph in _graphs(file) for path in (graph, *(graph.parent / name for name in companions(graph)))]
        return [str(path.relative_to(root)) for path in found]
    if file.suffix == ".onnx":
        from edgekit.sources.onnx import external_files, read_graph

        return external_files(read_graph(file), file)
    if file.suffix != ".xml":
        return []
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise SourceError(f"{file}: its weights {weights.name} are missing", hint=f"put {weights.name} beside the model")
    return [weights.name]
