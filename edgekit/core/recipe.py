"""The recipe: what to make of a model, for which targets, and what counts as good enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, field_validator

from edgekit.core.errors import RecipeError
from edgekit.core.quantization import Precision, QuantizationSpec
from edgekit.core.schema import Schema, parse, read_yaml

PluginWish = str | dict[str, Any]


class DataChoice(Schema):
    """Which sets calibrate, train and judge; ``NAME``, ``NAME:SPLIT`` or a path to a YAML file."""

    calibration: str | None = Field(None, description="Set that finds activation ranges; needs no labels.")
    evaluation: str | None = Field(None, description="Set that judges; shares no sample with the others.")
    training: str | None = Field(None, description="Set that passes train on.")


class Budget(Schema):
    """What a candidate may lose and must gain."""

    model_config = ConfigDict(allow_inf_nan=False)

    max_drop: float = Field(1.0, ge=0, description="Points of the task's primary metric that may be lost.")
    max_class_drop: float | None = Field(None, ge=0, description="Points that any one class may lose.")
    min_speedup: float | None = Field(None, gt=0, description="Times faster than the uncompressed export in the same runtime.")
    max_size: float | None = Field(None, gt=0, description="MB (10^6 bytes) on disk.")
    max_latency: float | None = Field(None, gt=0, description="Milliseconds at the median.")
    strict: bool = Field(False, description="Fail a build whose evidence is inconclusive or not measured.")


class Measuring(Schema):
    """How much to measure."""

    model_config = ConfigDict(allow_inf_nan=False)

    enabled: bool = Field(True, description="False converts and verifies only; the verdict is then 'not measured'.")
    rounds: int = Field(10, ge=3, le=1000, description="Interleaved rounds of latency.")
    round_seconds: float = Field(0.1, gt=0, le=60, description="Least time a model runs in a round.")
    resamples: int = Field(2000, ge=100, le=100_000, description="Bootstrap resamples for intervals.")


class Recipe(Schema):
    """One run: a model, its data, targets, method and budget."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run and of the files it makes.")
    model: PluginWish = Field(description="Source plugin and options, or just a path.")
    task: PluginWish = Field("generic", description="Task plugin that judges the model.")
    data: DataChoice
    parts: PluginWish | None = Field(None, description="How the model is divided into graphs that run in turn; left out for one graph.")
    targets: tuple[str, ...] = Field(("host",), min_length=1, description="Target profiles; one artefact each.")
    formats: tuple[str, ...] = Field((), description="Keep to these formats; empty for all that the target runs.")
    runtimes: tuple[str, ...] = Field((), description="Keep to these runtimes; empty for all that the target has.")
    precisions: tuple[Precision, ...] = Field((), description="Candidates to make; empty for all that pay on the target.")
    exporters: dict[str, str] = Field(default_factory=dict, description="Another exporter for a format, such as {onnx: optimum}.")
    prepare: tuple[PluginWish, ...] = Field(
        (), description="Passes that first make the model which everything is compared with: finetune for a new head, say."
    )
    passes: tuple[PluginWish, ...] = Field((), description="Passes on the checkpoint, in order.")
    quantization: QuantizationSpec = QuantizationSpec()
    quantization_by_format: dict[str, QuantizationSpec] = Field(
        default_factory=dict, description="Settings for a format whose quantizer differs, instead of 'quantization'."
    )
    budget: Budget = Budget()
    choose: Literal["fastest", "smallest"] = Field("fastest", description="Which candidate within the budget is delivered.")
    measure: Measuring = Measuring()
    seed: int = Field(0, ge=0, description="For everything random.")
    base: Path = Field(Path(), exclude=True, description="Folder that relative paths start from.")

    @field_validator("data", mode="before")
    @classmethod
    def _one_set_for_both(cls, value: Any) -> Any:
        return {"calibration": value, "evaluation": value} if isinstance(value, str) else value

    @field_validator("targets", "formats", "runtimes", "precisions", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        named = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return tuple(dict.fromkeys(value)) if named else value  # a name that stands twice means what it means once

    def to_yaml(self) -> str:
        """Return the recipe in full, defaults included, as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: missing file, malformed YAML, unknown or wrong key.
    """
    content = read_yaml(path)
    if "schema" not in content:
        raise RecipeError(f"{path}: key 'schema' is missing", hint="start with 'schema: 1'")
    content.setdefault("name", path.stem)
    content["base"] = path.resolve().parent
    return parse(Recipe, content, str(path))
