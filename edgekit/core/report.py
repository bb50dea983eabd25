"""The report: every number with its circumstances, in a schema that other programs may rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from edgekit.core.errors import InputError
from edgekit.core.machine import Machine
from edgekit.core.recipe import Budget
from edgekit.core.schema import Schema

Basis = Literal["measured", "emulated", "estimated", "not measured"]
Status = Literal["pass", "fail", "inconclusive", "not measured"]

SCHEMA_VERSION = 1


class Interval(Schema):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class ClassChange(Schema):
    """One class before and after."""

    name: str
    samples: int
    original: float = Field(description="Primary metric of the original on this class, in percent.")
    candidate: float
    change: float = Field(description="Points; negative is worse.")
    low: float | None = Field(None, description="Lower end of the change's 95 % interval.")
    high: float | None = Field(None, description="Upper end of the change's 95 % interval.")
    significant: bool = Field(description="Exact McNemar test with Holm's correction over the classes, p < 0.05.")


class Accuracy(Schema):
    """How well a model does on the evaluation set, always beside the original on the same samples."""

    basis: Basis
    samples: int
    metrics: dict[str, float] = Field(description="All metrics of the task.")
    primary: str
    change: Interval = Field(description="Primary metric minus the original's, points, paired bootstrap.")
    p_value: float | None = Field(None, description="Exact McNemar test against the original; None where right and wrong don't apply.")
    changed: float = Field(description="Percent of samples whose prediction changed.")
    per_class: tuple[ClassChange, ...] = ()
    per_slice: dict[str, tuple[ClassChange, ...]] = Field(default_factory=dict, description="By metadata column.")
    circumstances: dict[str, Any] = Field(default_factory=dict, description="Runtime, version, execution precision, threads.")


class Agreement(Schema):
    """How close a model's outputs are to the original's."""

    samples: int
    cosine: float = Field(description="Mean cosine similarity of the outputs.")
    max_error: float = Field(description="Largest absolute difference of any output value.")
    kl: float | None = Field(None, description="Mean KL divergence in nats of softmax outputs; None where outputs are no logits.")


class Latency(Schema):
    """Single-stream latency in milliseconds, measured in interleaved rounds in a fresh process."""

    basis: Basis
    reason: str = Field("", description="Why it was not measured.")
    p50: Interval | None = None
    p90: Interval | None = None
    p99: Interval | None = None
    runs: int = 0
    rounds: int = 0
    warmup_runs: int = 0
    speedup_runtime: Interval | None = Field(None, description="Times faster than the uncompressed export in the same runtime.")
    speedup_original: Interval | None = Field(None, description="Times faster than the original in its framework.")
    samples_ms: tuple[float, ...] = Field((), description="Up to 400 latencies, evenly drawn, for distribution plots.")
    circumstances: dict[str, Any] = Field(default_factory=dict)


class Generation(Schema):
    """How a model writes tokens behind a prompt, greedily, one text at a time."""

    basis: Basis
    prompt: int = Field(description="Tokens that were read.")
    new_tokens: int = Field(description="Tokens that were written.")
    rounds: int
    first_token_ms: Interval = Field(description="Milliseconds from the start until the first token was there, median.")
    tokens_per_second: Interval | None = Field(None, description="Of the tokens after the first, median; None where there is one only.")
    same_tokens: float = Field(description="Percent of the written tokens that the original wrote in the same place.")


class Memory(Schema):
    """Peak resident set of a process that only loads and runs the model."""

    basis: Basis
    peak_mb: float | None = None
    runtime_mb: float | None = Field(None, description="Peak of the same process before the model was loaded.")


class Size(Schema):
    """Bytes on disk."""

    raw: int
    zstd: int = Field(description="Compressed with Zstandard, level 3.")


class ModelResult(Schema):
    """One model: the original, an uncompressed export, or a candidate."""

    id: str = Field(description="Unique in the report, such as host/onnx-int8-static.")
    role: Literal["original", "export", "candidate"]
    target: str | None = None
    format: str
    runtime: str
    precision: str
    file: str | None = Field(None, description="Path of the model relative to the run folder; None if it was not delivered.")
    digest: str
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    latency: Latency | None = None
    generation: Generation | None = None
    memory: Memory | None = None
    size: Size | None = None
    layers: dict[str, int] = Field(default_factory=dict, description="Number of layers by precision, from the quantizer's plan.")
    status: Status | None = Field(None, description="How it stands against the budget; None for a model that was not judged.")
    notes: tuple[str, ...] = Field((), description="What the user should know: slower than float, layers kept in float, ...")


class Check(Schema):
    """One line of the budget."""

    name: str = Field(description="Field of the budget.")
    status: Status
    limit: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str
    message: str


class TargetResult(Schema):
    """What was chosen for a target, and whether it holds the budget."""

    target: str
    title: str
    chosen: str | None = Field(description="Id of the delivered model.")
    reason: str = Field(description="Why this one.")
    status: Status
    checks: tuple[Check, ...]
    command: str | None = Field(None, description="What to run on the device.")


class StageRecord(Schema):
    """One stage of the run.

    How long it took this time, and whether its result was stored already, is for the caller of this run alone: written down, it
    would make two runs of one recipe differ.
    """

    stage: str
    plugin: str
    key: str = Field(description="Digest of everything that decides its result, and its name in the store.")
    cached: SkipJsonSchema[bool] = Field(False, exclude=True)
    seconds: SkipJsonSchema[float] = Field(0.0, exclude=True)


class Provenance(Schema):
    """What made the report reproducible."""

    edgekit: str
    packages: dict[str, str]
    machine: Machine
    source: dict[str, Any]
    calibration: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    training: dict[str, Any] | None = None
    seed: int


class Report(Schema):
    """The outcome of a run."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    status: Status
    summary: str = Field(description="One sentence.")
    task: str
    budget: Budget
    models: tuple[ModelResult, ...]
    targets: tuple[TargetResult, ...]
    notes: tuple[str, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    provenance: Provenance

    @property
    def exit_code(self) -> int:
        """0 when the build may ship, 1 when a gate failed."""
        return 0 if self.may_ship(self.status) else 1

    def may_ship(self, status: Status) -> bool:
        """Whether what has this status may ship; inconclusive evidence fails strict budgets only."""
        return status == "pass" or (status != "fail" and not self.budget.strict)

    def model(self, wanted: str) -> ModelResult:
        """Return a model by id.

        Raises:
            KeyError: no such model.
        """
        return {m.id: m for m in self.models}[wanted]

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def load_report(path: Path) -> Report:
    """Read ``report.json``, or the one in a run folder.

    Raises:
        InputError: no such file, or not a report of this schema.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(f"{file}: {problem.strerror or problem}", hint="give a run folder or a report.json") from problem
    except (ValidationError, UnicodeDecodeError) as problem:
        raise InputError(
            f"{file}: is not an edgekit report of schema {SCHEMA_VERSION}", hint="make it again with this version of edgekit"
        ) from problem
