"""Models of several graphs: each graph goes through the exporters and quantizers of single ones; what they share is done here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core import digest
from edgekit.core.artifacts import Artifact, Batch, TensorSpec
from edgekit.core.datasets import DataSet
from edgekit.core.errors import EdgekitError, QuantizationError
from edgekit.core.modules import load_module, outputs_of
from edgekit.core.plugin import RuntimeSettings
from edgekit.runner import assembly
from edgekit.runner.programs import program_class
from edgekit.sessions import NATIVE, open_session

if TYPE_CHECKING:
    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.parts import Parts
    from edgekit.core.plugin import Context, Exporter, Quantizer, Session
    from edgekit.core.quantization import LayerPlan

FILE = "model.json"


def as_it_came(checkpoint: Checkpoint, parts: Parts | None, inputs: Sequence[Batch]) -> list[tuple[Batch, Batch]]:
    """Run inputs through a model before export: its PyTorch module, undivided, or the ready graph."""
    if checkpoint.kind == "module":
        module = load_module(checkpoint)
        return [(batch, parts.reference(module, batch)) for batch in inputs] if parts else outputs_of(module, inputs)
    graph = checkpoint.path / checkpoint.description["file"]
    with open_session(graph, NATIVE[checkpoint.description["format"]], RuntimeSettings(), fresh=False) as session:
        return [(batch, session.run(batch)) for batch in inputs]


def export(checkpoint: Checkpoint, parts: Parts | None, exporter: Exporter, out: Path, context: Context) -> Artifact:
    """Write a checkpoint in a format: as one graph, or divided, each graph in a folder of its own below ``out``.

    Raises:
        ExportError: the model can't be divided so, or the format can't carry one of its components, which is named.
    """
    if parts is None:
        return exporter.export(checkpoint, out, context)
    module = load_module(checkpoint)
    components: dict[str, Artifact] = {}
    for name, part in parts.divide(module, context).items():
        folder = out / name
        folder.mkdir()
        with _told(name):
            components[name] = exporter.write(part.module, folder, replace(context, example=part.example, dynamic=part.dynamic, lengths=()))
    return _described(out, parts.program, parts.settings(module), components, "fp32")


def quantize(model: Artifact, quantizer: Quantizer, out: Path, context: Context) -> Artifact:
    """Let a quantizer plan and change a graph, or each of several by itself; calibration sees what the program calls it with.

    A pattern in ``exclude`` means layers of any component, or of one: ``decode/lm_head*``; ``decode/*`` leaves all of it in float.

    Raises:
        QuantizationError: as the quantizer's, with the component's name, or a pattern that matches no layer of any.
    """
    if not model.components:
        return quantizer.perform(model, quantizer.plan(model, context), out, context)
    content = assembly.read(model.model)
    found: dict[str, list[str]] = {pattern: [] for pattern in quantizer.spec.exclude}
    components: dict[str, Artifact] = {}
    plans: list[dict[str, Any]] = []
    for name, part in model.components.items():
        mine = {pattern: rest for pattern in found if (rest := _rest(pattern, name, model.components)) is not None}
        if "*" in mine.values():
            components[name] = _copied(part, out / name)
            matching = [pattern for pattern, rest in mine.items() if rest == "*"]
        else:
            own = _of_component(context, model, name, quantizer)
            with _told(name):
                components[name], plan, matching = _quantized(part, quantizer, mine, out / name, own)
            plans += [layer.model_copy(update={"layer": f"{name}/{layer.layer}"}).model_dump() for layer in plan]
        for pattern in matching:
            found[pattern].append(name)
    for pattern, where in found.items():
        if not where:
            raise QuantizationError(
                f"exclude pattern {pattern!r} matches no layer of any component", hint=f"components: {', '.join(components)}"
            )
    (out / "plan.json").write_text(json.dumps(plans, indent=1) + "\n", encoding="utf-8")
    return _described(out, content["program"], content["settings"], components, quantizer.precision, model.metadata)


def _described(
    out: Path,
    program: str,
    settings: dict[str, Any],
    components: dict[str, Artifact],
    precision: str,
    metadata: dict[str, Any] | None = None,
) -> Artifact:
    """Write the assembly and describe the whole."""
    files = {name: f"{name}/{part.file}" for name, part in components.items()}
    content = {"assembly": assembly.VERSION, "program": program, "settings": settings, "components": files}
    (out / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    outer: Any = program_class(program)(components, settings)  # type: ignore[arg-type]  # asks them for inputs and outputs only
    inputs, outputs = (tuple(TensorSpec(*spec) for spec in side) for side in (outer.inputs, outer.outputs))
    kind = next(iter(components.values())).format
    return Artifact.describe(
        out, format=kind, file=FILE, precision=precision, inputs=inputs, outputs=outputs, metadata=metadata, components=components
    )


class _told:  # noqa: N801 - used like a function
    """Put a component's name in front of what goes wrong with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, EdgekitError):
            raise type(problem)(f"component {self._name}: {problem.message}", hint=problem.hint) from problem


def _rest(pattern: str, component: str, components: Container[str]) -> str | None:
    """What an exclude pattern asks of a component's layers: ``decode/lm_head`` is ``lm_head`` to ``decode`` and nothing to others."""
    first, _, rest = pattern.partition("/")
    if first not in components:
        return pattern
    return rest if first == component else None


def _quantized(
    part: Artifact, quantizer: Quantizer, patterns: Mapping[str, str], folder: Path, context: Context
) -> tuple[Artifact, list[LayerPlan], list[str]]:
    """Plan and perform on one component, with those patterns that match its layers; return them too."""
    folder.mkdir()
    plan = _with_exclude(quantizer, ()).plan(part, context)
    layers = [layer.layer for layer in plan]
    matching = [pattern for pattern, rest in patterns.items() if any(fnmatchcase(layer, rest) for layer in layers)]
    chosen = _with_exclude(quantizer, tuple(patterns[pattern] for pattern in matching))
    if matching:
        plan = chosen.plan(part, context)
    return chosen.perform(part, plan, folder, context), plan, matching


def _with_exclude(quantizer: Quantizer, patterns: tuple[str, ...]) -> Quantizer:
    return quantizer.model_copy(update={"spec": quantizer.spec.model_copy(update={"exclude": patterns})})


def _copied(part: Artifact, folder: Path) -> Artifact:
    shutil.copytree(part.path, folder, ignore=shutil.ignore_patterns("stage.json"))
    return Artifact.load(folder)


def _of_component(context: Context, model: Artifact, name: str, quantizer: Quantizer) -> Context:
    """A context whose samples are what the program calls one component with; the same where nothing is calibrated."""
    if not quantizer.calibrates or context.calibration is None:
        return context
    calls = Calls(model, name, context.calibration)
    return replace(context, calibration=calls, example=next(calls.batches(1, limit=1))[0])


class Calls(DataSet):
    """What a component is called with while the whole runs: of each sample one call, drawn from a seed.

    The float model runs again for every pass over the set; nothing is kept, for caches are large.
    """

    classes = ()

    def __init__(self, model: Artifact, component: str, data: DataSet) -> None:
        self.name = f"{data.name}, as {component} sees it"
        self._model = model
        self._component = component
        self._data = data

    @property
    def digest(self) -> str:
        """SHA-256 over the samples, the model and the component."""
        return digest.of_json([self._data.digest, self._model.digest, self._component])

    @property
    def provenance(self) -> dict[str, Any]:
        """Those of the samples."""
        return {**self._data.provenance, "component": self._component}

    def __len__(self) -> int:
        return len(self._data)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield one call a sample."""
        content = assembly.read(self._model.model)
        parts: dict[str, Any] = {name: _opened(part) for name, part in self._model.components.items()}
        rng = np.random.default_rng(0)
        parts[self._component] = recorder = _Recorder(parts[self._component], rng)
        program = program_class(content["program"])(parts, content["settings"])
        try:
            for inputs, labels in self._data.batches(1, limit=limit):
                recorder.seen = 0
                program.run(inputs)
                yield recorder.kept, labels
        finally:
            for part in parts.values():
                part.close()

    def sample_digests(self) -> Iterator[str]:
        """Those of the samples."""
        return self._data.sample_digests()

    def metadata(self) -> list[dict[str, str]]:
        """Those of the samples."""
        return self._data.metadata()


class _Recorder:
    """Stands for a component and keeps one of its calls, each with the same chance (Vitter 1985, reservoir sampling)."""

    def __init__(self, inner: Any, rng: np.random.Generator) -> None:
        self._inner = inner
        self._rng = rng
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.seen = 0
        self.kept: Batch = {}

    def run(self, inputs: Batch) -> Batch:
        self.seen += 1
        if self._rng.random() * self.seen < 1:
            self.kept = {name: array.copy() for name, array in inputs.items()}
        return dict(self._inner.run(inputs))

    def close(self) -> None:
        self._inner.close()


def _opened(part: Artifact) -> Session:
    return open_session(part.model, NATIVE[part.format], RuntimeSettings(), fresh=False)
