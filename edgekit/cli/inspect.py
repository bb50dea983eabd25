"""``edgekit inspect``: what is in a model file, and what a target makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.inspection import Inspection, LayerInfo, TargetFit

NAME_WIDTH = 44


def command(
    model: Annotated[
        Path,
        typer.Argument(
            help="ONNX, TFLite, OpenVINO IR or .pt2 file, model.json of several graphs, state dict, SavedModel or checkpoint folder."
        ),
    ],
    target: Annotated[str | None, typer.Option("--target", help="Also say what this target can't run or would run in float.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List every node, not only the layers that compute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a model file; nothing in it is executed."""
    from edgekit.cli._output import console, print_json
    from edgekit.core.target import load_target
    from edgekit.inspection import inspect

    found = inspect(model, target=load_target(target) if target else None)
    if as_json:
        print_json(found)
        return
    out = console()
    _summary(found, out)
    _layers(found, every, out)
    for note in found.notes:
        out.print(f"note: {note}")
    if found.fit:
        out.print()
        _fit(found.fit, out)


def _summary(found: Inspection, out: Console) -> None:
    from edgekit.cli._output import amount, plain, size

    out.print(plain(f"{found.path}: {found.format}{f', opset {found.opset}' if found.opset else ''}"), style="bold")
    if found.producer:
        out.print(plain(f"made by     {found.producer}"))
    out.print(plain(f"size        {size(found.size)} ({', '.join(found.files[:4])}{', ...' if len(found.files) > 4 else ''})"))
    macs = f", {amount(found.macs)} MACs" if found.macs is not None else ""
    out.print(f"parameters  {amount(found.parameters)}{macs}")
    for word, ends in (("inputs", found.inputs), ("outputs", found.outputs)):
        if ends:
            out.print(plain(f"{word:<11} {', '.join(f'{end.name} {end.dtype} {_shape(end.shape)}' for end in ends)}"))
    if found.operators:
        out.print(plain(f"operators   {', '.join(f'{count} {name}' for name, count in found.operators.items())}"))
    out.print(plain(f"precision   {', '.join(f'{count} x {name}' for name, count in found.precisions.items()) or 'nothing computes'}"))
    if found.quantization:
        out.print(f"quantized   {_quantization(found)}")
    if found.memory is not None:
        out.print(f"memory      about {size(found.memory)} for weights and activations at batch 1 (estimated)")
    if found.advice:
        out.print(f"preset      {found.advice.preset or 'none'}: {found.advice.reason}")
    out.print()


def _quantization(found: Inspection) -> str:
    q = found.quantization
    if q is None:
        return "no"
    parts = [
        q.kind if q.kind != "weights" else "weights only",
        f"activations {', '.join(q.activations)}" if q.activations else "",
        {True: "symmetric", False: "with zero points", None: ""}[q.symmetric],
        f"weights {', '.join(q.weights)} per {'channel' if q.per_channel else 'tensor'}" if q.weights else "",
        {True: "all 8 bits used", False: "7 bits used", None: ""}[q.full_range],
    ]
    return ", ".join(part for part in parts if part)


def _layers(found: Inspection, every: bool, out: Console) -> None:
    from edgekit.cli._output import amount, short, table

    shown = [layer for layer in found.layers if every or layer.computes]
    if not shown:
        return
    graph = any(layer.operator for layer in found.layers)
    columns = ["layer", *(["operator"] if graph else []), "shape", "parameters", *(["MACs"] if graph else []), "precision"]

    def row(layer: LayerInfo) -> list[object]:
        numbers = [amount(layer.parameters or None), *([amount(layer.macs)] if graph else [])]
        return [short(_name(layer), NAME_WIDTH), *([layer.operator] if graph else []), _shape(layer.shape), *numbers, layer.precision]

    out.print(table(columns, map(row, shown), right=("parameters", "MACs")))
    if len(shown) < len(found.layers):
        out.print(f"\n{len(found.layers) - len(shown)} nodes without weights of their own are not shown; --all lists them.")


def _name(layer: LayerInfo) -> str:
    """TFLite names a tensor after every operation that was fused into it; the first says enough."""
    return layer.name.split(";")[0]


def _shape(shape: tuple[int | str, ...] | None) -> str:
    return "?" if shape is None else f"[{', '.join(map(str, shape))}]"


def _fit(fit: TargetFit, out: Console) -> None:
    from edgekit.cli._output import plain

    if fit.problem:
        out.print(plain(f"{fit.target}: {fit.problem}"), soft_wrap=True)
    for backend in fit.backends:
        verdict = "unfit" if not backend.runs else "fit, with reservations" if backend.concerns else "fit"
        out.print(f"{fit.target}, {backend.runtime}: {verdict}")
        for concern in backend.concerns:
            some = f" ({', '.join(concern.layers[:3])}{', ...' if len(concern.layers) > 3 else ''})" if concern.layers else ""
            effect = "wrong or impossible" if concern.severity == "stops" else "slower"
            out.print(plain(f"  {effect}: {concern.message}{some}"), soft_wrap=True)
