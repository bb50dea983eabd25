"""The contracts of the plugin slots: what each room promises to the pipeline.

A plugin is a frozen bundle of typed options with a few methods. Its file's name is the name that recipes use.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.core.artifacts import Artifact, Batch, Checkpoint, TensorSpec
from edgekit.core.context import Context as Context
from edgekit.core.datasets import Record
from edgekit.core.errors import MissingPackageError, RecipeError, SourceError
from edgekit.core.figures import Draw, Figures
from edgekit.core.quantization import LayerPlan, QuantizationSpec
from edgekit.core.schema import Schema
from edgekit.core.trials import Trials, each_layer

if TYPE_CHECKING:
    import torch

    from edgekit.core.report import Report


class Plugin(Schema, ABC):
    """Base of every plugin.

    Attributes:
        requires: packages the plugin imports, import name to distribution name.
    """

    requires: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def check_packages(cls) -> None:
        """Import what the plugin needs.

        Raises:
            MissingPackageError: names the package, what is wrong with it and the command that installs it.
        """
        for module, distribution in cls.requires.items():
            try:
                importlib.import_module(module)
            except ImportError as problem:
                reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
                raise MissingPackageError(
                    f"{distribution} is needed here and does not import ({reason})", hint=f"pip install {distribution}"
                ) from problem


class Reader(Plugin):
    """Slot ``data``: reads records of one kind of storage, without holding them all in memory."""

    @abstractmethod
    def files(self, base: Path) -> list[Path]:
        """Files that decide the content, for digests; relative paths are taken from ``base``."""

    @abstractmethod
    def count(self, base: Path) -> int:
        """Number of records."""

    @abstractmethod
    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield the records at ascending indices; memory does not grow with their number."""

    def classes(self, base: Path) -> tuple[str, ...]:
        """Class names that the storage itself knows (subfolders, say), in order; empty where it knows none."""
        return ()


class Source(Plugin):
    """Slot ``sources``: brings a model from the outside world.

    Attributes:
        reaches: formats that its checkpoints can become; empty for every one, as a PyTorch module can.
    """

    reaches: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def recognises(cls, path: str) -> bool:
        """Whether a path or name looks like something this source takes; reads no more than names and first bytes."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Digests of everything outside that decides the checkpoint, by role."""

    @abstractmethod
    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Write the model below ``out`` as a checkpoint. Executes nothing that the user did not name."""

    @classmethod
    @abstractmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the module of a ``module`` checkpoint, before its passes and without its weights."""


@dataclass(frozen=True)
class Improvement:
    """What a pass made.

    Attributes:
        module: the new module.
        record: what happened on the way (loss and metric by epoch, say), as plain data, kept beside the plan.
        notes: what the report should say of it, one line each.
        plan: the plan as it ended, where performing it decided more (what to prune after a recovery, say); None for the plan as it was.
    """

    module: torch.nn.Module
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plan: Any = None


class Pass(Plugin):
    """Slot ``passes``: turns a checkpoint into a better one; decides first, then performs.

    Attributes:
        trains: whether it reads the training set.
    """

    trains: ClassVar[bool] = False

    @property
    def times(self) -> bool:
        """Whether it measures latency; its result then holds for the machine and the runtime that it was made on."""
        return False

    @property
    def taught_by(self) -> str | dict[str, Any] | None:
        """The teacher it wants: ``original``, an earlier pass of the recipe by name, or any model as in ``model``; None for no teacher."""
        return None

    def fingerprint(self) -> dict[str, str]:
        """Digests of everything outside that decides the result, by role."""
        return {}

    @abstractmethod
    def plan(self, module: torch.nn.Module, context: Context) -> Any:
        """Decide, as plain data (JSON); touches nothing."""

    @abstractmethod
    def perform(self, module: torch.nn.Module, plan: Any, context: Context) -> Improvement:
        """Make a new module that follows the plan; the given one may be changed and is not used again."""

    @classmethod
    @abstractmethod
    def rebuild(cls, module: torch.nn.Module, plan: Any) -> torch.nn.Module:
        """Redo only the structural part of a plan, so that saved weights fit."""


class Exporter(Plugin):
    """Slot ``exporters``: writes a checkpoint in a model format.

    Attributes:
        packages: distributions whose versions decide the result.
        writes: the format, for a further exporter of it; empty where the file's name is the format's.
    """

    writes: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write the float model below ``out``.

        Raises:
            ExportError: the format can't carry the model; says which operator or property is in the way.
        """

    @abstractmethod
    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write a module in memory below ``out``, as :meth:`export` writes one at rest.

        Raises:
            ExportError: as there.
        """


class Quantizer(Plugin):
    """Slot ``quantizers``: makes an artefact of lower precision in its own format; decides first, then performs."""

    accepts: ClassVar[str]
    precision: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    calibrates: ClassVar[bool] = False

    spec: QuantizationSpec = QuantizationSpec()

    @abstractmethod
    def plan(self, model: Artifact, context: Context) -> list[LayerPlan]:
        """Decide each layer's precision; touches nothing.

        Raises:
            QuantizationError: a setting that this format can't honour, or an exclude pattern that matches no layer.
        """

    @abstractmethod
    def perform(self, model: Artifact, plan: list[LayerPlan], out: Path, context: Context) -> Artifact:
        """Write the quantized model below ``out``."""

    def trials(self, model: Artifact, plan: list[LayerPlan], context: Context) -> Trials:
        """Make ready to perform many variants of a plan; by default each anew, and any layer may stay in float."""
        return Trials(plan, lambda variant, out: self.perform(model, variant, out, context), each_layer(plan))


class Session(ABC):
    """A loaded model, wherever it runs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    circumstances: dict[str, Any]
    """Runtime, version, execution precision, threads, host; recorded with every number."""

    @abstractmethod
    def run(self, inputs: Batch) -> Batch:
        """Run the model once.

        Raises:
            HostError: the process that holds the model died.
        """

    @abstractmethod
    def time(self, inputs: Batch, *, seconds: float, at_least: int) -> list[int]:
        """Run the model again and again on the same inputs; return each call's wall time in nanoseconds."""

    def generate(self, inputs: Batch, **options: Any) -> Batch:
        """Write ``tokens`` [1, N] behind a prompt, and tell the ``nanoseconds`` [N] until each was there.

        Raises:
            SourceError: the model does not generate.
        """
        raise SourceError("this session runs single graphs only", hint="open the model in a host")

    @abstractmethod
    def peak_memory(self) -> int:
        """Peak resident set of the process that holds the model, in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the model and its process."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class RuntimeSettings:
    """How a runtime executes a model.

    Attributes:
        threads: threads for one inference.
        precision: ``f32``; ``bf16`` where the runtime can choose (OpenVINO); ``unsaturated``, as ``f32`` with int8 products that add up
            exactly on any CPU.
    """

    threads: int = 1
    precision: str = "f32"


class Host(Plugin):
    """Slot ``hosts``: a place where the runner runs a model."""

    @abstractmethod
    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        """Load a model file in a runtime.

        Raises:
            HostError: the place can't be reached or the runtime died.
            MissingPackageError: the runtime is not installed there.
        """


class Task(Plugin):
    """Slot ``tasks``: what the model is for, and how its field judges it.

    A model is judged from observations: one row of numbers a sample, small enough to keep, rich enough to compute the metrics of
    any resample. So intervals come from resampling rows, never from running the model again.
    """

    primary: ClassVar[str]
    """The metric that budgets speak of; higher is better, in percent."""
    labelled: ClassVar[bool] = True
    dynamic_int8: ClassVar[frozenset[str]] = frozenset()
    """Formats in which ``int8`` means dynamic quantization for models of this task; static in all others."""
    auto_class: ClassVar[str] = ""
    """Transformers Auto class of models of this task; empty for the class that the checkpoint names."""
    reading: ClassVar[str] = "none"
    """What an application does with the outputs, for the description in a bundle: ``none``, or ``softmax`` of class scores."""

    def loss(self, outputs: Mapping[str, torch.Tensor], labels: Sequence[Any]) -> torch.Tensor:
        """Return the scalar that training on labels makes small.

        Raises:
            RecipeError: this task can't be trained on labels.
            DataError: labels or outputs that don't fit each other.
        """
        raise RecipeError(f"{type(self).__name__} can't be trained on labels", hint="learn from a teacher: passes: [{use: distil}]")

    def imitation(self, outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], temperature: float) -> torch.Tensor:
        """Return the scalar that makes a student's outputs like its teacher's: their squared difference relative to the teacher's power.

        Tasks whose outputs are class scores compare softened distributions instead (Hinton et al. 2015, arXiv:1503.02531).
        """
        differences = [((outputs[name] - value) ** 2).mean() / (value**2).mean().clamp_min(1e-12) for name, value in taught.items()]
        return sum(differences[1:], differences[0]) / len(differences)

    def kept(self, outputs: Batch) -> Batch:
        """What of the outputs is kept to tell how closely they follow the original's, which :meth:`observe` sees too; by default all."""
        return outputs

    @abstractmethod
    def observe(self, outputs: Batch, labels: Sequence[Any], original: Batch) -> np.ndarray:
        """Return observations [N, C] of a batch of outputs, given labels and what is kept of the original model's outputs.

        Raises:
            DataError: labels or outputs that don't fit each other (a label beyond the classes, say).
        """

    @abstractmethod
    def metrics(self, observations: np.ndarray) -> dict[str, float]:
        """Compute all metrics from observations [N, C], in percent where they are shares."""

    def figures(self, observations: np.ndarray) -> Draw:
        """Return the function that gives the figures of any draw of these samples; made once, called thousands of times."""
        return lambda counts: Figures(self.metrics(np.repeat(observations, counts, axis=0))[self.primary])

    def likely_losses(self, outputs: Batch, original: Batch) -> np.ndarray:
        """Return the points of the primary metric that each sample [N] is likely to lose, told without labels from the original's outputs.

        Here, how far the outputs turn away: 100 points times one minus their cosine. Tasks whose outputs are class scores know better.
        """
        pairs = [(outputs[name].reshape(len(value), -1), value.reshape(len(value), -1)) for name, value in original.items()]
        mine, wanted = (np.concatenate(side, axis=1).astype(np.float64) for side in zip(*pairs, strict=True))
        norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(wanted, axis=1)
        return np.asarray(100 * (1 - (mine * wanted).sum(axis=1) / np.maximum(norms, 1e-30)))

    @abstractmethod
    def predictions(self, observations: np.ndarray) -> np.ndarray:
        """Return what was predicted for each sample [N], to see which predictions changed."""

    @abstractmethod
    def groups(self, observations: np.ndarray) -> np.ndarray | None:
        """Return each sample's class [N] for per-class figures, or None where there are no classes, or several a sample."""

    def holds(self, observations: np.ndarray) -> np.ndarray | None:
        """Return which classes each sample holds, bool [N, K], where it may hold several and :meth:`figures` tells of each; else None."""
        return None

    @abstractmethod
    def correct(self, observations: np.ndarray) -> np.ndarray | None:
        """Return whether each sample is right [N] of bool, for McNemar's test; None where right and wrong don't apply."""


class Writer(Plugin):
    """Slot ``reports``: renders a report."""

    filename: ClassVar[str]

    @abstractmethod
    def render(self, report: Report) -> str:
        """Return the file's text."""
