"""A null format: a model is a JSON file that says which layers are integers, and costs and loses what its layers cost and lose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Artifact, Batch, TensorSpec
from edgekit.core.plugin import Context, Quantizer, Session, Task
from edgekit.core.progress import Silent
from edgekit.core.quantization import LayerPlan
from edgekit.core.registry import create
from edgekit.search import precision

CLASSES = 4


class Points:
    """Labelled points; a label is the class that the float model gives, but for every tenth."""

    classes: tuple[str, ...] = ()

    def __init__(self, count: int = 400, name: str = "points", labelled: bool = True, seed: int = 0) -> None:
        self.name = self.digest = name
        self.rows = np.random.default_rng(seed).normal(size=(count, CLASSES)).astype(np.float32)
        wrong = np.arange(count) % 10 == 0
        self.labels = [int(y) if labelled else None for y in (self.rows.argmax(axis=1) + wrong) % CLASSES]
        self.read = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "samples": len(self)}

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        count = min(limit or len(self), len(self))
        for index in range(count):
            self.read += 1
            place = index * len(self) // count
            yield {"x": self.rows[place][None]}, [self.labels[place]]

    def sample_digests(self) -> Iterator[str]:
        yield from (row.tobytes().hex() for row in self.rows)

    def metadata(self) -> list[dict[str, str]]:
        return [{} for _ in self.rows]

    def parted(self, share: float, seed: int) -> tuple[Points, Points]:
        parts = Points(0), Points(0)
        taken = np.random.default_rng(seed).permutation(len(self)) < round(share * len(self))
        for part, mask in zip(parts, (~taken, taken), strict=True):
            part.name, part.rows = self.name, self.rows[mask]
            part.labels = [label for label, wanted in zip(self.labels, mask, strict=True) if wanted]
        return parts


@dataclass
class Factory:
    """A chain of layers.

    Attributes:
        noise: what each adds to the outputs when it is an integer layer.
        gain: milliseconds that each then saves of its one.
        conversion: milliseconds for each change between float and integer.
        made: how many models were written.
    """

    noise: Mapping[str, float]
    gain: Mapping[str, float] = field(default_factory=dict)
    conversion: float = 0.0
    made: int = 0

    def write(self, plan: list[LayerPlan], out: Path) -> Artifact:
        """Write the model of a plan."""
        self.made += 1
        integer = [row.precision != "fp32" for row in plan]
        spent = sum(1 - self.gain.get(row.layer, 0.5) * on for row, on in zip(plan, integer, strict=True))
        changes = sum(a != b for a, b in zip([False, *integer], [*integer, False], strict=True))
        content = {
            "noise": float(np.sqrt(sum(self.noise[row.layer] ** 2 for row, on in zip(plan, integer, strict=True) if on))),
            "ms": spent + changes * self.conversion,
        }
        (out / "model.json").write_text(json.dumps(content), encoding="utf-8")
        (out / "plan.json").write_text(json.dumps([row.model_dump() for row in plan]), encoding="utf-8")
        spec = (TensorSpec("x", "float32", ("batch", CLASSES)),)
        return Artifact.describe(out, format="toy", file="model.json", precision="int8", inputs=spec, outputs=spec)

    def plan(self, precision: str = "int8") -> list[LayerPlan]:
        """Every layer in a precision."""
        return [LayerPlan(layer=name, operator="Conv", precision=precision) for name in self.noise]


class ToyQuantizer(Quantizer):
    """Makes what its factory says."""

    accepts = "toy"
    precision = "int8"
    factory: Any

    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        return self.factory.plan()

    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        return self.factory.write(plan, out)


class ToySession(Session):
    """Adds a fixed noise to what it is given."""

    inputs = outputs = ()

    def __init__(self, content: Mapping[str, float]) -> None:
        self._content = content
        self._random = np.random.default_rng(7)

    def run(self, inputs: Batch) -> Batch:
        return {"scores": 3 * inputs["x"] + self._content["noise"] * self._random.normal(size=(1, CLASSES)).astype(np.float32)}

    def time(self, inputs: Batch, *, seconds: float, at_least: int) -> list[int]:
        return [round(self._content["ms"] * 1e6)] * at_least

    def peak_memory(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Outcome:
    """What a search left behind."""

    made: Artifact
    record: dict[str, Any]
    reasons: dict[str, str]
    floats: list[str]


@pytest.fixture
def search(tmp_path: Path) -> Any:
    """Run a search over a factory's layers."""

    def opened(file: Path) -> ToySession:
        return ToySession(json.loads(file.read_text()))

    def run(factory: Factory, max_drop: float = 1.0, *, timed: bool = True, name: str = "out", **context: Any) -> Outcome:
        for folder in (f"{name}-float", name):
            (tmp_path / folder).mkdir()
        model = factory.write(factory.plan("fp32"), tmp_path / f"{name}-float")
        task = create(Task, "image_classification", "task")
        given = Context(**{"example": {}, "calibration": Points(), "task": task, **context})
        made = precision.assign(
            model,
            ToyQuantizer.model_construct(factory=factory),
            given,
            tmp_path / name,
            max_drop=max_drop,
            judged=opened,
            raced=opened if timed else None,
        )
        plan = json.loads((made.path / "plan.json").read_text())
        return Outcome(
            made,
            json.loads((made.path / "search.json").read_text()),
            {row["layer"]: row["reason"] for row in plan},
            [row["layer"] for row in plan if row["precision"] == "fp32"],
        )

    return run


@pytest.fixture
def factory() -> type[Factory]:
    return Factory


@pytest.fixture
def points() -> type[Points]:
    return Points


@pytest.fixture
def listener() -> Listener:
    return Listener()
