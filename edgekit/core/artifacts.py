"""What stages hand to each other: frozen descriptions of folders on disk.

A checkpoint is a PyTorch model at rest (safetensors + JSON, no pickle) or a ready graph; an artefact is a model file that a
runtime loads. Both are folders with a JSON description; loading one never executes anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core import digest
from edgekit.core.errors import SourceError

Batch = dict[str, np.ndarray]
"""Named arrays whose first axis is the batch."""

DESCRIPTION = "checkpoint.json"
ARTIFACT = "artifact.json"
WEIGHTS = "model.safetensors"
RECORDS = (ARTIFACT, "stage.json", "plan.json", "search.json")
"""Files beside a model that tell of it and do not belong to it."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type (NumPy's word) and shape of an input or output; a string in the shape is a symbolic axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @staticmethod
    def of(content: dict[str, Any]) -> TensorSpec:
        """Read a spec from plain data."""
        return TensorSpec(content["name"], content["dtype"], tuple(content["shape"]))


def misfit(specs: Sequence[TensorSpec], batch: Batch) -> bool:
    """Whether a batch lacks an input, has one too many, or one of another type or shape; int64 fits int32."""
    return {spec.name for spec in specs} != batch.keys() or not all(_fits(spec, batch[spec.name]) for spec in specs)


def _fits(spec: TensorSpec, array: np.ndarray) -> bool:
    same_type = array.dtype.name == spec.dtype or (array.dtype.name, spec.dtype) == ("int64", "int32")
    return (
        same_type
        and len(array.shape) == len(spec.shape)
        and all(isinstance(n, str) or n == m for n, m in zip(spec.shape, array.shape, strict=True))
    )


@dataclass(frozen=True)
class Step:
    """One pass that a checkpoint went through, with the plan that rebuilds its structure."""

    plugin: str
    plan: Any


@dataclass(frozen=True)
class Checkpoint:
    """A model before export.

    Attributes:
        path: the folder that holds it.
        source: name of the source plugin that can rebuild it.
        kind: ``module`` for PyTorch weights, ``graph`` for a ready model file.
        description: what the source needs to rebuild it (architecture, class, file name) and the digest or version of code that it
            rebuilds it with, plain data.
        digest: SHA-256 of weights and description.
        notes: what loading noticed (a stripped prefix, say), for the report.
        steps: the passes it went through, in order.
    """

    path: Path
    source: str
    kind: str
    description: dict[str, Any]
    digest: str
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def weights(self) -> Path:
        """Where the weights of a ``module`` checkpoint lie."""
        return self.path / WEIGHTS

    @property
    def companions(self) -> list[Path]:
        """Files that the source put beside the weights to rebuild the model from: a configuration, say."""
        own = (WEIGHTS, DESCRIPTION, "stage.json", "plan.json", "record.json")
        return sorted(p for p in self.path.rglob("*") if p.is_file() and p.name not in own)

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts for later stages that the last pass left in its plan; a further pass makes those of earlier ones void."""
        plan = self.steps[-1].plan if self.steps else None
        found: dict[str, Any] = plan.get("metadata", {}) if isinstance(plan, dict) else {}
        return found

    def save(self) -> None:
        """Write the description beside the weights."""
        content = {k: v for k, v in asdict(self).items() if k != "path"}
        (self.path / DESCRIPTION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Checkpoint:
        """Read a checkpoint's description.

        Raises:
            SourceError: the folder is not a checkpoint.
        """
        content = _read(path / DESCRIPTION)
        content["steps"] = tuple(Step(**step) for step in content["steps"])
        content["notes"] = tuple(content["notes"])
        return Checkpoint(path=path, **content)

    @staticmethod
    def describe(
        path: Path, source: str, kind: str, description: dict[str, Any], *, notes: tuple[str, ...] = (), steps: tuple[Step, ...] = ()
    ) -> Checkpoint:
        """Describe the files in a folder as a checkpoint and write the description."""
        of_files = digest.of_tree(path, skip=(DESCRIPTION, "stage.json"))
        plans = [asdict(step) for step in steps]
        made = Checkpoint(path, source, kind, description, digest.of_json([of_files, source, kind, description, plans]), notes, steps)
        made.save()
        return made


@dataclass(frozen=True)
class Artifact:
    """A model file that a runtime loads.

    A model of several graphs is one artefact too: its main file names the graphs and the program that runs them
    (:mod:`edgekit.runner.assembly`), and each graph is an artefact in a folder of its own below.

    Attributes:
        path: the folder that holds it.
        format: ``onnx``, ``openvino``, ``tflite`` or ``torch``.
        file: the main file, relative to ``path``; further files (external data, ``.bin``) lie beside it.
        precision: ``fp32``, ``fp16``, ``int8-static``, ``int8-dynamic``, ...
        inputs: in the order in which the graph takes them.
        outputs: in the order in which the graph gives them.
        digest: SHA-256 of the model files.
        metadata: facts for later stages and the report (opset, layers left in float, ...), plain data.
        components: the graphs of a model of several, by name; empty for a single graph.
    """

    path: Path
    format: str
    file: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str
    metadata: dict[str, Any] = field(default_factory=dict)
    components: dict[str, Artifact] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The main file."""
        return self.path / self.file

    @property
    def files(self) -> list[Path]:
        """Every file that has to travel with the model."""
        return sorted(p for p in self.path.rglob("*") if p.is_file() and p.name not in RECORDS)

    @property
    def size(self) -> int:
        """Bytes of the model on disk, companions included."""
        return sum(p.stat().st_size for p in self.files)

    @staticmethod
    def describe(
        path: Path,
        *,
        format: str,  # noqa: A002 - the field's word
        file: str,
        precision: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        metadata: dict[str, Any] | None = None,
        components: dict[str, Artifact] | None = None,
    ) -> Artifact:
        """Describe the model files in a folder as an artefact and write the description."""
        of_files = digest.of_tree(path, skip=RECORDS)
        made = Artifact(path, format, file, precision, inputs, outputs, of_files, metadata or {}, components or {})
        made.save()
        return made

    def noted(self, metadata: dict[str, Any]) -> Artifact:
        """Add facts to the description."""
        made = replace(self, metadata={**self.metadata, **metadata})
        made.save()
        return made

    def save(self) -> None:
        """Write the description beside the model; components have their own."""
        content = {k: v for k, v in asdict(replace(self, components={})).items() if k != "path"}
        content["components"] = list(self.components)
        (self.path / ARTIFACT).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Artifact:
        """Read an artefact's description.

        Raises:
            SourceError: the folder is not an artefact.
        """
        content = _read(path / ARTIFACT)
        for side in ("inputs", "outputs"):
            content[side] = tuple(TensorSpec.of(item) for item in content[side])
        content["components"] = {name: Artifact.load(path / name) for name in content["components"]}
        return Artifact(path=path, **content)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise SourceError(f"{path}: is not readable ({problem})", hint="run the stage that made this folder again") from problem
    return content
