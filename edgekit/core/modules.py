"""PyTorch modules from checkpoints and back, without pickle."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.artifacts import WEIGHTS, Batch, Checkpoint, Step
from edgekit.core.errors import ExportError, SourceError
from edgekit.core.factories import RAISED, described
from edgekit.core.plugin import Context, Pass, Source
from edgekit.core.registry import load

if TYPE_CHECKING:
    import torch


def load_module(checkpoint: Checkpoint) -> torch.nn.Module:
    """Rebuild a checkpoint's module: architecture, then the structure of each pass, then the weights.

    Raises:
        SourceError: the checkpoint is a ready graph, or its weights don't fit its architecture.
    """
    from safetensors.torch import load_model

    if checkpoint.kind != "module":
        raise SourceError("a ready graph has no PyTorch module", hint="start from a PyTorch checkpoint for passes and other formats")
    module: torch.nn.Module = load(Source, checkpoint.source).build(checkpoint)
    for step in checkpoint.steps:
        module = load(Pass, step.plugin).rebuild(module, step.plan)
    try:
        load_model(module, str(checkpoint.weights), strict=True)
    except RuntimeError as problem:
        raise SourceError(f"{checkpoint.path}: weights don't fit the architecture ({problem})", hint="check --arch") from problem
    module.eval()
    return module


def save_module(
    module: torch.nn.Module, out: Path, *, source: str, description: dict[str, Any], notes: Sequence[str] = (), steps: Sequence[Step] = ()
) -> Checkpoint:
    """Write a module's weights (shared tensors once) and description below ``out``."""
    from safetensors.torch import save_model

    save_model(module, str(out / WEIGHTS))
    return Checkpoint.describe(out, source, "module", description, notes=tuple(notes), steps=tuple(steps))


def save_improved(module: torch.nn.Module, out: Path, *, given: Checkpoint, step: Step, notes: Sequence[str] = ()) -> Checkpoint:
    """Write below ``out`` what a pass made of a checkpoint, with everything that the checkpoint's source needs to rebuild it."""
    for file in given.companions:
        copy = out / file.relative_to(given.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    steps, told = (*given.steps, step), (*given.notes, *notes)
    return save_module(module, out, source=given.source, description=given.description, notes=told, steps=steps)


def arguments(module: torch.nn.Module, names: Sequence[str]) -> list[str]:
    """Order input names as a module's ``forward`` takes them; a single input goes first whatever it is called.

    Raises:
        ExportError: ``forward`` has no parameter of that name.
    """
    if len(names) == 1:
        return list(names)
    parameters = list(inspect.signature(module.forward).parameters)
    for name in names:
        if name not in parameters:
            raise ExportError(f"the model's forward takes ({', '.join(parameters)}), the data set gives {name!r}", hint="rename the input")
    return sorted(names, key=parameters.index)


def tensors(batch: Batch, order: Sequence[str]) -> tuple[torch.Tensor, ...]:
    """Turn named arrays into tensors in the given order."""
    import numpy as np
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(batch[name])) for name in order)


@dataclass(frozen=True)
class ExampleCall:
    """How to call a module on real inputs, in the form that exporters take.

    Attributes:
        names: input names in the order of ``tensors``.
        tensors: one tensor an input, first axis: batch.
        dynamic: for each input its varying axes, axis to symbol.
        outputs: names of the outputs, with their tensors.
    """

    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    dynamic: tuple[dict[int, str], ...]
    outputs: dict[str, torch.Tensor]

    @property
    def args(self) -> tuple[torch.Tensor, ...]:
        """Positional arguments: a lone input, whatever ``forward`` calls it."""
        return self.tensors if len(self.names) == 1 else ()

    @property
    def kwargs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments: several inputs, by name."""
        return {} if len(self.names) == 1 else dict(zip(self.names, self.tensors, strict=True))

    def dims(self) -> Any:
        """Varying axes as ``torch.export`` takes them; one symbol is one ``Dim``, shared between inputs."""
        import torch

        symbols = {symbol: torch.export.Dim(symbol, min=1) for axes in self.dynamic for symbol in axes.values()}
        shapes = [{axis: symbols[symbol] for axis, symbol in axes.items()} for axes in self.dynamic]
        return tuple(shapes) if len(self.names) == 1 else dict(zip(self.names, shapes, strict=True))


def example_call(module: torch.nn.Module, context: Context, *, batch: int) -> ExampleCall:
    """Run a module once on ``batch`` copies of the context's first sample and describe the call.

    Raises:
        ExportError: the module does not take the data set's inputs, raises on them, or returns something else than tensors.
    """
    import numpy as np

    names = arguments(module, list(context.example))
    repeated = {name: np.repeat(array[:1], batch, axis=0) for name, array in context.example.items()}
    given = tensors(repeated, names)
    dynamic = tuple({0: "batch", **context.dynamic.get(name, {})} for name in names)
    call = ExampleCall(tuple(names), given, dynamic, {})
    return replace(call, outputs=_outputs(module, names, given))


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """Name a module's outputs: a mapping keeps its keys, a lone tensor is ``output``, a sequence ``output_0``, ``output_1``, ...

    Raises:
        ExportError: the module returns something that is not made of tensors.
    """
    import torch

    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, dict):
        pairs = {str(k): v for k, v in result.items() if v is not None}
    elif isinstance(result, (tuple, list)):
        pairs = {f"output_{i}": v for i, v in enumerate(result)} if len(result) != 1 else {"output": result[0]}
    else:
        raise ExportError(f"the model returns {type(result).__name__}, not tensors", hint="return a tensor, a tuple or a dict of tensors")
    for name, value in pairs.items():
        if not isinstance(value, torch.Tensor):
            raise ExportError(f"the model's output {name!r} is {type(value).__name__}, not a tensor", hint="return tensors only")
    if not pairs:
        raise ExportError(f"the model returns an empty {type(result).__name__}", hint="return a tensor, a tuple or a dict of tensors")
    return pairs


def outputs_of(module: torch.nn.Module, inputs: Sequence[Batch]) -> list[tuple[Batch, Batch]]:
    """Run batches through a module; return each with its named outputs.

    Raises:
        ExportError: the module raises on them, or returns something else than tensors.
    """
    found = []
    for batch in inputs:
        order = arguments(module, list(batch))
        outputs = _outputs(module, order, tensors(batch, order))
        found.append((batch, {name: value.numpy() for name, value in outputs.items()}))
    return found


def _outputs(module: torch.nn.Module, names: Sequence[str], given: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    import torch

    try:
        with torch.inference_mode():
            result = module(*given) if len(names) == 1 else module(**dict(zip(names, given, strict=True)))
    except RAISED as problem:
        shapes = ", ".join(f"{name} {list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for name, t in zip(names, given, strict=True))
        first = described(problem).removeprefix("RuntimeError: ")
        hint = "check the data set's preprocessing against the model; forward must take any number of samples"
        raise ExportError(f"the model fails on {shapes}: {first}", hint=hint) from problem
    return named_outputs(result)
