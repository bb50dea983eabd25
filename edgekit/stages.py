"""The stages of a run, each a function of digests: what is in the store is not done again.

Stages load heavy libraries only when there is work; a run whose results are all stored never imports PyTorch.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import assembly
from edgekit.core import digest
from edgekit.core.artifacts import Artifact, Batch, Checkpoint, Step, misfit
from edgekit.core.errors import DataError, RecipeError
from edgekit.core.machine import kernel_features, this_machine
from edgekit.core.modules import load_module, save_improved
from edgekit.core.parts import Parts
from edgekit.core.plugin import Context, Exporter, Pass, Plugin, Quantizer, RuntimeSettings, Source, Task
from edgekit.core.registry import create, name_of, qualified
from edgekit.core.report import Memory, Size, StageRecord
from edgekit.core.store import StageKey, Store, code_digest
from edgekit.core.workplace import remembered
from edgekit.keys import about as _about
from edgekit.keys import digest_of as _digest
from edgekit.keys import options_of as _options
from edgekit.keys import packages as _packages
from edgekit.runner.runtimes import runtime_class, runtime_names
from edgekit.sessions import NATIVE, companions, format_of, open_session

if TYPE_CHECKING:
    from edgekit.core.bench import Bench
    from edgekit.core.datasets import DataSet, DataSets
    from edgekit.core.progress import Progress
    from edgekit.core.quantization import Int8Scheme
    from edgekit.core.recipe import Recipe

FIDELITY_SAMPLES = 8


class Stages:
    """Runs stages against a store and keeps a record of each."""

    def __init__(self, recipe: Recipe, store: Store, progress: Progress, sets: DataSets, task: Task) -> None:
        self._recipe = recipe
        self._store = store
        self.progress = progress
        self._calibration = sets.calibration
        self._evaluation = sets.evaluation
        self._training = sets.training
        self._task = task
        self.parts = create(Parts, recipe.parts, "parts") if recipe.parts else None
        self.records: list[StageRecord] = []

    def checkpoint(self, source: Source) -> Checkpoint:
        """Bring the model in."""

        def make(out: Path) -> None:
            source.check_packages()
            source.fetch(out, self._plain_context())

        options = {**_options(source), "auto_class": self._task.auto_class, "seed": self._recipe.seed}
        return Checkpoint.load(self.run("load", source, options, source.fingerprint(), ("torch", "transformers"), make))

    def improved(self, checkpoint: Checkpoint, work: Pass, *, teacher: Checkpoint | None = None, bench: Bench | None = None) -> Checkpoint:
        """Run one pass: plan, perform, save weights and plan.

        Args:
            checkpoint: what it starts from.
            work: the pass.
            teacher: what it learns from.
            bench: times modules in the runtime they are meant for.

        Raises:
            RecipeError: the pass trains, and the recipe names no training set.
        """
        if work.trains and self._training is None:
            raise RecipeError(f"{name_of(work)} trains, and the recipe names no training set", hint="add 'training: SET' under 'data'")
        inputs = {
            **work.fingerprint(),
            "checkpoint": checkpoint.digest,
            "calibration": _digest(self._calibration),
            "training": _digest(self._training) if work.trains else "",
            "teacher": teacher.digest if teacher else "",
            "task": self._task_digest,
        }
        options = {**_options(work), "seed": self._recipe.seed}
        if work.times:
            options["bench"] = bench.circumstances if bench else None
        key = StageKey("pass", qualified(work), options, inputs, ("torch", *work.requires.values()))

        with self._store.scratch(key) as scratch:

            def make(out: Path) -> None:
                work.check_packages()
                module = load_module(checkpoint)
                context = replace(
                    self._context(None),
                    training=self._training,
                    task=self._task,
                    teacher=partial(load_module, teacher) if teacher else None,
                    bench=bench if work.times else None,
                    scratch=scratch,
                )
                plan = remembered(scratch / "plan.json", lambda: work.plan(module, context))
                better = work.perform(module, plan, context)
                plan = plan if better.plan is None else json.loads(json.dumps(better.plan))
                for name, content in (("plan", plan), ("record", better.record)):
                    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                notes = [f"{name_of(work)}: {note}" for note in better.notes]
                save_improved(better.module, out, given=checkpoint, step=Step(name_of(work), plan), notes=notes)

            return Checkpoint.load(self._made(key, make))

    def exported(self, checkpoint: Checkpoint, exporter: Exporter) -> Artifact:
        """Write a checkpoint in a model format."""

        def make(out: Path) -> None:
            exporter.check_packages()
            model = assembly.export(checkpoint, self.parts, exporter, out, self._context(None))
            if checkpoint.metadata:
                model.noted(checkpoint.metadata)

        inputs = {"checkpoint": checkpoint.digest, "example": _digest(self._calibration or self._evaluation)}
        options = {**_options(exporter), "parts": self.parts_digest}
        return Artifact.load(self.run("export", exporter, options, inputs, exporter.packages, make))

    def quantized(self, model: Artifact, quantizer: Quantizer, scheme: Int8Scheme | None) -> Artifact:
        """Plan and perform a change of precision."""

        def make(out: Path) -> None:
            quantizer.check_packages()
            assembly.quantize(model, quantizer, out, self._context(scheme))

        options = {**_options(quantizer), "scheme": scheme.model_dump() if scheme else None, "seed": self._recipe.seed}
        options |= {"parts": self.parts_digest}
        if quantizer.spec.min_sqnr is not None:
            options["kernels"] = _kernels()
        inputs = {
            "model": model.digest,
            "metadata": digest.of_json(model.metadata),
            "calibration": _digest(self._calibration) if quantizer.calibrates else "",
        }
        return Artifact.load(self.run("quantize", quantizer, options, inputs, quantizer.packages, make))

    def assigned(
        self, model: Artifact, quantizer: Quantizer, scheme: Int8Scheme | None, runtime: str, settings: RuntimeSettings, *, timed: bool
    ) -> Artifact:
        """Change precision as far as the budget's ``max_drop`` allows, found by search; ``timed`` where latencies here are the target's."""
        from edgekit.search import precision

        def make(out: Path) -> None:
            quantizer.check_packages()
            context = replace(self._context(scheme), training=self._training, task=self._task)
            opened = partial(open_session, runtime=runtime, fresh=False)
            judged = partial(opened, settings=replace(settings, threads=this_machine().cores))
            raced = partial(opened, settings=settings) if timed else None
            precision.assign(model, quantizer, context, out, max_drop=self._recipe.budget.max_drop, judged=judged, raced=raced)

        machine = timed and this_machine().model_dump(mode="json")
        options = {**_options(quantizer), "runtime": runtime, **asdict(settings), "machine": machine, "seed": self._recipe.seed}
        options |= {"scheme": scheme and scheme.model_dump(), "max_drop": self._recipe.budget.max_drop, "kernels": _kernels()}
        inputs = {"model": model.digest, "calibration": _digest(self._calibration), "training": _digest(self._training)}
        inputs |= {"task": self._task_digest, "search": code_digest("search")}
        return Artifact.load(self.run("search", quantizer, options, inputs, (*quantizer.packages, *_packages(runtime)), make))

    def verified(self, model: Artifact, runtime: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Compare an export with the model it was made from on real inputs; a mismatch is an error."""
        from edgekit.evaluation import fidelity

        def make(out: Path) -> None:
            self.refuse_misfit(model)
            inputs = [batch for batch, _ in self.samples.batches(1, limit=FIDELITY_SAMPLES)]
            if all(isinstance(spec.shape[0], str) for spec in model.inputs):
                inputs.insert(0, self._example)
            expected = assembly.as_it_came(checkpoint, self.parts, inputs)
            with open_session(model.model, runtime, RuntimeSettings(), fresh=False) as session:
                found = fidelity.verify(session, expected)
            (out / "fidelity.json").write_text(json.dumps(asdict(found), sort_keys=True), encoding="utf-8")

        inputs = {"model": model.digest, "checkpoint": checkpoint.digest, "samples": _digest(self.samples)}
        packages = (*_packages(runtime), "torch")
        path = self.run("verify", "evaluation", {"runtime": runtime, "parts": self.parts_digest}, inputs, packages, make, model.format)
        content: dict[str, Any] = json.loads((path / "fidelity.json").read_text(encoding="utf-8"))
        return content

    def observed(self, model: Artifact, runtime: str, settings: RuntimeSettings, *, original: Path | None) -> Path:
        """Run the evaluation set through a model and keep what the task observes."""
        from edgekit.evaluation import accuracy

        data = self._evaluation
        if data is None:
            raise ValueError("observing needs an evaluation set")

        def make(out: Path) -> None:
            self.refuse_misfit(model)
            with open_session(model.model, runtime, settings, fresh=False) as session:
                accuracy.observe(session, data, self._task, out, original=original, progress=self.progress)

        options = {"runtime": runtime, **asdict(settings), "kernels": _kernels(), "task": qualified(self._task), **_options(self._task)}
        inputs = {
            "model": model.digest,
            "data": _digest(data),
            "task": code_digest(qualified(self._task)),
            "original": original.name if original else "",
        }
        return self.run("evaluate", "evaluation", options, inputs, _packages(runtime), make, _about(model, runtime, settings))

    def weighed(self, model: Artifact, runtime: str, settings: RuntimeSettings) -> Memory:
        """Measure the peak memory of a process that only loads and runs the model."""
        from edgekit.evaluation import memory

        def make(out: Path) -> None:
            with open_session(model.model, runtime, settings, fresh=True) as session:
                for _ in range(3):
                    session.run(self.one_sample)
                (out / "memory.json").write_text(memory.peak(session).model_dump_json(), encoding="utf-8")

        options = {"runtime": runtime, **asdict(settings), "machine": this_machine().model_dump(mode="json")}
        inputs = {"model": model.digest, "sample": _digest(self.samples)}
        path = self.run("weigh", "evaluation", options, inputs, _packages(runtime), make, _about(model, runtime, settings))
        return Memory.model_validate_json((path / "memory.json").read_text(encoding="utf-8"))

    def sized(self, model: Artifact) -> Size:
        """Measure bytes on disk, raw and compressed."""
        from edgekit.evaluation import size

        def make(out: Path) -> None:
            (out / "size.json").write_text(size.size_of(model).model_dump_json(), encoding="utf-8")

        path = self.run("size", "evaluation", {}, {"model": model.digest}, ("zstandard",), make, f"{model.format} {model.precision}")
        return Size.model_validate_json((path / "size.json").read_text(encoding="utf-8"))

    def adopted(self, file: Path, runtime: str | None = None) -> Artifact:
        """Take in a model file as it is; its inputs and outputs are those that its runtime tells.

        Raises:
            SourceError: no model file, or a damaged one.
            RecipeError: no such runtime, or one that loads another format.
        """
        found = format_of(file)
        chosen = runtime or NATIVE[found]
        fitting = [name for name in runtime_names() if found == runtime_class(name).FORMAT]
        if chosen not in fitting:
            raise RecipeError(f"runtime {chosen!r} does not load {file.name}", hint=f"use one of: {', '.join(fitting)}")
        others = companions(file)

        def make(out: Path) -> None:
            for name in (file.name, *others):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.parent / name, out / name)
            with open_session(out / file.name, chosen, RuntimeSettings(), fresh=False) as session:
                sides = session.inputs, session.outputs
            Artifact.describe(out, format=found, file=file.name, precision="as given", inputs=sides[0], outputs=sides[1])

        inputs = {name: digest.of_file(file.parent / name) for name in (file.name, *others)}
        return Artifact.load(self.run("take in", "stages", {"runtime": chosen}, inputs, _packages(chosen), make, file.name))

    def disjoint(self) -> None:
        """Check by hash that evaluation shares no sample with calibration or training."""
        evaluation = self._evaluation
        if evaluation is None:
            return
        for role, data in (("calibration", self._calibration), ("training", self._training)):
            if data is not None:
                inputs = {"calibration": _digest(data), "evaluation": _digest(evaluation)}
                make = partial(_check_disjoint, data, evaluation)
                self.run("check", "data", {}, inputs, (), make, f"that {role} and evaluation share no sample")

    @cached_property
    def _task_digest(self) -> str:
        return digest.of_json([qualified(self._task), _options(self._task), code_digest(qualified(self._task))])

    @cached_property
    def parts_digest(self) -> str:
        """Digest of how the model is divided; empty for one graph."""
        if self.parts is None:
            return ""
        return digest.of_json([qualified(self.parts), _options(self.parts), code_digest(qualified(self.parts)), code_digest("assembly")])

    @cached_property
    def samples(self) -> DataSet:
        """The set that real inputs are taken from where labels don't matter."""
        data = self._calibration or self._evaluation
        if data is None:
            raise ValueError("a run needs data")
        return data

    @cached_property
    def one_sample(self) -> Batch:
        """The first of them."""
        return next(self.samples.batches(1, limit=1))[0]

    @cached_property
    def _example(self) -> Batch:
        """A batch of three: exports are traced with two and must run with any number."""
        return next(self.samples.batches(3, limit=3))[0]

    def refuse_misfit(self, model: Artifact) -> None:
        """Refuse data that a model does not take, before a runtime says so in its own words.

        Raises:
            DataError: names both sides.
        """
        if misfit(model.inputs, self.one_sample):
            takes = ", ".join(f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]" for spec in model.inputs)
            gives = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in self.one_sample.items())
            raise DataError(
                f"{model.file} takes {takes}; {self.samples.name} gives {gives}",
                hint="let the data set's inputs have the model's names, and preprocess to its type and shape",
            )

    def _plain_context(self) -> Context:
        return Context(example={}, seed=self._recipe.seed, progress=self.progress, auto_class=self._task.auto_class)

    def _context(self, scheme: Int8Scheme | None) -> Context:
        given = replace(self._plain_context(), example=self.one_sample, calibration=self._calibration, scheme=scheme)
        return replace(given, dynamic=self.samples.varying, lengths=self.samples.lengths)

    def run(
        self,
        stage: str,
        plugin: Plugin | str,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        packages: Sequence[str],
        make: Callable[[Path], None],
        about: str = "",
    ) -> Path:
        """Carry out a stage, or find its result in the store; keep a record."""
        name = plugin if isinstance(plugin, str) else qualified(plugin)
        return self._made(StageKey(stage, name, options, inputs, tuple(packages)), make, about)

    def _made(self, key: StageKey, make: Callable[[Path], None], about: str = "") -> Path:
        began = time.perf_counter()
        label = f"{key.stage} {about or key.plugin.rpartition('.')[2]}"

        def announced(out: Path) -> None:
            self.progress.stage(label)
            make(out)

        result = self._store.stage(key, announced)
        if result.key in {record.key for record in self.records}:
            return result.path
        if result.cached:
            self.progress.stage(label, cached=True)
        seconds = round(time.perf_counter() - began, 3)
        self.records.append(StageRecord(stage=key.stage, plugin=key.plugin, key=result.key, cached=result.cached, seconds=seconds))
        return result.path


def _kernels() -> list[str]:
    """What decides which kernels this CPU runs, and with them what an int8 model computes."""
    return sorted(kernel_features(this_machine().features))


def _check_disjoint(data: DataSet, evaluation: DataSet, out: Path) -> None:
    from edgekit.data import check_disjoint

    check_disjoint(data, evaluation)
