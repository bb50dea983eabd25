"""Shows a finished run on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from edgekit.core.report import Interval, ModelResult, Report

MARKS = {"pass": "[green]pass[/green]", "fail": "[red]fail[/red]", "inconclusive": "[yellow]inconclusive[/yellow]"}


def show(report: Report, folder: Path | None) -> None:
    """Print the models, the checks and where everything lies."""
    console = Console()
    console.print(_table(report))
    for target in report.targets:
        console.print(f"[bold]{target.target}[/bold]: {target.chosen} [dim]({target.reason})[/dim]", highlight=False)
        for check in target.checks:
            console.print(f"  {MARKS.get(check.status, check.status)} {check.message}", highlight=False)
        if target.command:
            console.print(f"  on the device: {target.command}", highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"[dim]note: {note}[/dim]", highlight=False)
    console.print(f"{MARKS.get(report.status, report.status)}: {report.summary}", highlight=False)
    if folder is not None:
        console.print(f"[dim]{folder}/report.html, report.md, report.json, junit.xml, recipe.yaml[/dim]", highlight=False)


def _table(report: Report) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    primary = next((m.accuracy.primary for m in report.models if m.accuracy), "accuracy")
    chosen = {t.chosen for t in report.targets}
    for heading in ("model", primary, "change", "p50 ms", "vs float", "vs original", "KB", "memory MB"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for model in report.models:
        table.add_row(("[bold]* " if model.id in chosen else "  ") + model.id, *_cells(model))
    return table


def _cells(model: ModelResult) -> list[str]:
    accuracy, latency = model.accuracy, model.latency
    return [
        f"{accuracy.metrics[accuracy.primary]:.1f}" if accuracy else "-",
        f"{accuracy.change.value:+.1f} [{accuracy.change.low:+.1f}, {accuracy.change.high:+.1f}]" if accuracy else "-",
        f"{latency.p50.value:.3f}" if latency and latency.p50 else "not measured",
        _times(latency.speedup_runtime if latency else None),
        _times(latency.speedup_original if latency else None),
        f"{model.size.raw / 1000:.0f}" if model.size else "-",
        f"{model.memory.peak_mb:.0f}" if model.memory and model.memory.peak_mb else "-",
    ]


def _times(ratio: Interval | None) -> str:
    return f"{ratio.value:.2f}x" if ratio else "-"
