"""Stages in which all models of a field take turns on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.machine import this_machine
from edgekit.keys import digest_of, packages
from edgekit.sessions import host_of

if TYPE_CHECKING:
    from edgekit.core.recipe import Measuring
    from edgekit.evaluation.generation import Writing
    from edgekit.evaluation.latency import Contestant, Timing
    from edgekit.results import Entrant
    from edgekit.stages import Stages


def raced(stages: Stages, field: Sequence[Entrant], measuring: Measuring) -> dict[str, Timing]:
    """Measure the latency of all entrants in interleaved rounds."""
    from edgekit.evaluation import latency

    def make(out: Path) -> None:
        for entrant in field:
            stages.refuse_misfit(entrant.artifact)
        for name, timing in latency.race(_contestants(field), stages.one_sample, measuring, stages.progress).items():
            timing.save(out / files[name])

    files = {entrant.id: f"{index}.json" for index, entrant in enumerate(field)}
    options = {"rounds": measuring.rounds, "round_seconds": measuring.round_seconds, **_circumstances(field)}
    path = stages.run("time", "evaluation", options, _inputs(stages, field), _packages(field), make, f"{len(field)} models in turn")
    return {name: latency.Timing.load(path / file) for name, file in files.items()}


def written(stages: Stages, field: Sequence[Entrant], measuring: Measuring) -> dict[str, Writing]:
    """Let all entrants write in interleaved rounds; nothing where the model does not write."""
    from edgekit.evaluation import generation

    parts = stages.parts
    if parts is None or not parts.writes:
        return {}

    def make(out: Path) -> None:
        prompt = parts.prompt(stages.one_sample)
        for name, writing in generation.race(_contestants(field), prompt, measuring.rounds, stages.progress).items():
            writing.save(out / files[name])

    files = {entrant.id: f"{index}.json" for index, entrant in enumerate(field)}
    options = {"rounds": measuring.rounds, "parts": stages.parts_digest, **_circumstances(field)}
    path = stages.run("write", "evaluation", options, _inputs(stages, field), _packages(field), make, f"{len(field)} models in turn")
    return {name: generation.Writing.load(path / file) for name, file in files.items()}


def _contestants(field: Sequence[Entrant]) -> list[Contestant]:
    from edgekit.evaluation.latency import Contestant

    return [Contestant(e.id, e.artifact.model, e.runtime, e.settings, host_of(e.runtime, fresh=True)) for e in field]


def _circumstances(field: Sequence[Entrant]) -> dict[str, Any]:
    return {"machine": this_machine().model_dump(mode="json"), "field": [[e.id, e.runtime, asdict(e.settings)] for e in field]}


def _inputs(stages: Stages, field: Sequence[Entrant]) -> dict[str, str]:
    return {**{entrant.id: entrant.artifact.digest for entrant in field}, "sample": digest_of(stages.samples)}


def _packages(field: Sequence[Entrant]) -> tuple[str, ...]:
    return packages(*(entrant.runtime for entrant in field))
