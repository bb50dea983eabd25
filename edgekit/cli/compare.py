"""``edgekit compare``: what changed between runs, and whether it is within the gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from edgekit.comparison import Changed, Comparison, Delta, Pair, RunComparison, Side
    from edgekit.core.report import Check

HEADER = ("", "accuracy", "change, points", "p50", "times", "size", "times", "memory", "times", "budget")
ARROW = " \u2192 "


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders or report.json files; the first is the baseline.")],
    max_drop: Annotated[float | None, typer.Option(min=0, help="Points of accuracy that a run may lose against the baseline.")] = None,
    max_slowdown: Annotated[
        float | None, typer.Option(help="Times the baseline's median latency that a run may take, such as 1.1.")
    ] = None,
    max_growth: Annotated[float | None, typer.Option(help="Times the baseline's size on disk that a run may have, such as 1.05.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the comparison to this Markdown file as well.")] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 also when a gate is inconclusive or could not be checked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs with the first one; exit with 1 when one loses more than the gates allow."""
    from edgekit.cli._output import console, print_json, while_somebody_reads
    from edgekit.comparison import compare

    found = compare(runs, max_drop=max_drop, max_slowdown=max_slowdown, max_growth=max_growth)
    if markdown is not None:
        _write(markdown, "\n".join(_markdown(found)) + "\n")
    with while_somebody_reads():
        if as_json:
            print_json(found)
        else:
            _print(found, console())
    if found.exit_code or (strict and found.status not in (None, "pass")):
        raise typer.Exit(1)


def _print(found: Comparison, out: Console) -> None:
    from edgekit.cli._output import plain, table

    out.print(plain(f"baseline  {_side(found.baseline)}"), soft_wrap=True)
    for run in found.runs:
        out.print(plain(f"run       {_side(run.run)}"), soft_wrap=True)
        for title, pairs in _sections(run):
            out.print()
            out.print(table((title, *HEADER[1:]), [_row(pair) for pair in pairs], right=("times", "change, points")))
        facts = _facts(run)
        if facts:
            out.print()
        for fact in facts:
            out.print(plain(fact), soft_wrap=True)
        if run.checks:
            out.print()
            out.print(table(("gate", "verdict", ""), [(_option(check), check.status, check.message) for check in run.checks]))
        out.print()


def _markdown(found: Comparison) -> list[str]:
    from edgekit.reports.markdown import MARKS, escape, table

    verdict = f": {MARKS[found.status]} {found.status}" if found.status else ""
    lines = [f"## Comparison{verdict}", "", f"Baseline: {escape(_side(found.baseline))}"]
    for run in found.runs:
        lines += ["", f"### {escape(_side(run.run))}"]
        if run.checks:
            rows = [[escape(_option(c)), f"{MARKS[c.status]} {c.status}", escape(c.message)] for c in run.checks]
            lines += ["", *table(["gate", "verdict", ""], "lll", rows)]
        for title, pairs in _sections(run):
            rows = [[escape(cell) for cell in _row(pair)] for pair in pairs]
            lines += ["", *table([title, *HEADER[1:]], "llrlrlrlrl", rows)]
        lines += ["", *(f"- {escape(fact)}" for fact in _facts(run))]
    return lines


def _sections(run: RunComparison) -> list[tuple[str, Sequence[Pair]]]:
    return [(title, pairs) for title, pairs in (("delivered for", run.delivered), ("model", run.models)) if pairs]


def _row(pair: Pair) -> list[str]:
    from edgekit.reports import _numbers as n

    status = pair.run_status or n.NOTHING
    accuracy = n.NOTHING if pair.accuracy.change is None else f"{n.change(pair.accuracy.change)} {pair.accuracy.finding}"
    return [
        _subject(pair),
        _both(n.percent(pair.accuracy.baseline), n.percent(pair.accuracy.run)),
        accuracy,
        _both(n.milliseconds(pair.latency.baseline), n.milliseconds(pair.latency.run)),
        _times(pair.latency),
        _both(*(n.size(None if v is None else round(v)) for v in (pair.size.baseline, pair.size.run))),
        _times(pair.size),
        _both(n.megabytes(pair.memory.baseline), n.megabytes(pair.memory.run)),
        _times(pair.memory),
        status if status == pair.baseline_status else _both(pair.baseline_status or n.NOTHING, status),
    ]


def _subject(pair: Pair) -> str:
    """The model, or the target with what both deliver for it."""
    return f"{pair.subject}: {_name(pair.run, pair)}" if pair.baseline == pair.run != pair.subject else pair.subject


def _name(model: str | None, pair: Pair) -> str:
    return (model or "nothing").removeprefix(f"{pair.subject}/")


def _both(before: str, after: str) -> str:
    return before if before == after else before + ARROW + after


def _times(delta: Delta) -> str:
    from edgekit.reports import _numbers as n

    if delta.change is None:
        return delta.finding if delta.finding == "not comparable" else n.NOTHING
    return f"{n.times(delta.change.value)} {delta.finding}"


def _side(side: Side) -> str:
    return f"{side.path}  {side.name}: {side.status} (edgekit {side.edgekit}, {side.machine})"


def _facts(run: RunComparison) -> list[str]:
    other = [p for p in run.delivered if p.baseline != p.run]
    facts = [f"{p.subject}: delivers {_name(p.run, p)} instead of {_name(p.baseline, p)}." for p in other]
    facts += [f"Note: {note}." for note in run.notes]
    reasons = dict.fromkeys(d.reason for p in run.models for d in (p.accuracy, p.latency, p.memory) if d.finding == "not comparable")
    facts += [f"Not comparable: {reason}." for reason in reasons if reason not in run.notes]
    for title, changed in (("Versions", run.versions), ("Machine", run.machine), ("Settings", run.settings)):
        if changed:
            facts.append(f"{title}: {'; '.join(_change(one) for one in changed)}.")
    for title, names in (("Only in the baseline", run.only_baseline), ("Only in the run", run.only_run)):
        if names:
            facts.append(f"{title}: {', '.join(names)}.")
    return facts


def _change(one: Changed) -> str:
    return f"{one.name} {_short(one.baseline)}{ARROW}{_short(one.run)}"


def _short(value: str | None) -> str:
    """A value in a line; of a digest its beginning."""
    if value is None:
        return "none"
    return value[:12] if len(value) == 64 and " " not in value else value


def _option(check: Check) -> str:
    return f"--{check.name.replace('_', '-')} {check.limit:g}"


def _write(path: Path, text: str) -> None:
    from edgekit.core.errors import OutputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise OutputError(
            f"{path}: {problem.strerror or problem}", hint="name a file in a folder that exists and can be written"
        ) from problem
