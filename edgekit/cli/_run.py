"""Shows a finished run on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgekit.core.report import Interval, ModelResult, Report

COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "not measured": "yellow"}


def show(report: Report, folder: Path | None) -> None:
    """Print the models, the checks and where everything lies."""
    from rich.text import Text

    from edgekit.cli._output import console

    screen = console()
    screen.print(_table(report))
    for target in report.targets:
        screen.print(Text.assemble("\n", (target.target, "bold"), f": {target.chosen or 'nothing'}: {target.reason}"))
        for check in target.checks:
            screen.print(Text.assemble("  ", (check.status, COLOURS[check.status]), f" {check.message}"))
        if target.command:
            screen.print(f"  on the device: {target.command}", soft_wrap=True)
    for note in report.notes:
        screen.print(Text(f"note: {note}", style="dim"))
    _close(report, folder, screen)


def _close(report: Report, folder: Path | None, screen: Console) -> None:
    from rich.text import Text

    screen.print(Text.assemble("\n", (report.status, f"bold {COLOURS[report.status]}"), f": {report.summary}"))
    if folder is not None:
        screen.print(Text(f"see {folder / 'report.html'}", style="dim"), soft_wrap=True)


def _table(report: Report) -> Table:
    from edgekit.cli._output import table

    primary = next((m.accuracy.primary for m in report.models if m.accuracy), "accuracy")
    chosen = {t.chosen for t in report.targets}
    columns = ("", "model", primary, "change", "p50 ms", "x float", "x original", "kB", "peak MB")
    rows = [("*" if m.id in chosen else "", m.id, *_cells(m)) for m in report.models]
    return table(columns, rows, right=columns[2:])


def _cells(model: ModelResult) -> list[str]:
    accuracy, latency = model.accuracy, model.latency
    return [
        f"{accuracy.metrics[accuracy.primary]:.1f}" if accuracy else "-",
        f"{accuracy.change.value:+.1f} [{accuracy.change.low:+.1f} {accuracy.change.high:+.1f}]" if accuracy else "-",
        f"{latency.p50.value:.3f}" if latency and latency.p50 else "-",
        _times(latency.speedup_runtime if latency else None),
        _times(latency.speedup_original if latency else None),
        f"{model.size.raw / 1000:.0f}" if model.size else "-",
        f"{model.memory.peak_mb:.0f}" if model.memory and model.memory.peak_mb else "-",
    ]


def _times(ratio: Interval | None) -> str:
    return f"{ratio.value:.2f}" if ratio else "-"
