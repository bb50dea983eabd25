"""What a stage may know beside its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.artifacts import Batch
from edgekit.core.datasets import DataSet, TrainingSet
from edgekit.core.progress import Progress, Silent
from edgekit.core.quantization import Int8Scheme

if TYPE_CHECKING:
    import torch

    from edgekit.core.bench import Bench
    from edgekit.core.plugin import Task


@dataclass(frozen=True)
class Context:
    """What a stage may know beside its input.

    Attributes:
        example: a batch of real, preprocessed inputs, as from ``calibration.batches``.
        calibration: samples that find ranges; None where the recipe names none.
        training: samples that passes train on; None where the recipe names none.
        task: what the model is for; None where a stage need not know.
        teacher: loads the model that a distilling pass learns from; None where none was asked for.
        bench: times modules in the runtime they are meant for; None where no runtime of the targets can be measured here.
        scratch: folder that outlives a killed run, for checkpoints inside a stage; None where there is none.
        scheme: what the target's int8 kernels expect.
        seed: for everything random.
        progress: told how far long work has come.
        auto_class: Transformers Auto class that the task wants; empty for the checkpoint's own.
        dynamic: input axes other than the batch that vary, by input name: axis -> symbol (``{"input_ids": {1: "sequence"}}``).
        lengths: lengths of those axes that formats with fixed shapes are made for, ascending.
    """

    example: Batch
    calibration: DataSet | None = None
    training: TrainingSet | None = None
    task: Task | None = None
    teacher: Callable[[], torch.nn.Module] | None = None
    bench: Bench | None = None
    scratch: Path | None = None
    scheme: Int8Scheme | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    auto_class: str = ""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
