"""The report for a pull request or a CI job summary: a verdict, a table for each target, no scrolling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from edgekit.core.plugin import Writer
from edgekit.reports import _numbers as n
from edgekit.reports._view import Group, further, groups, has_latency, metric_name, notes_of, primary, short, worst_first

if TYPE_CHECKING:
    from edgekit.core.report import ModelResult, Report, Status

MARKS: dict[Status, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "not measured": "\u2796"}
WORST = 5


class Markdown(Writer):
    """Write the report as GitHub-flavoured Markdown."""

    filename: ClassVar[str] = "report.md"

    def render(self, report: Report) -> str:
        """Return the Markdown text; usually fewer than 60 lines."""
        lines = [f"## {MARKS[report.status]} {escape(report.name)}: {report.status}", "", escape(report.summary)]
        for group in groups(report):
            lines += ["", *_target(group, report)]
        if report.notes:
            lines += ["", *(f"- {escape(note)}" for note in report.notes)]
        lines += ["", _footer(report)]
        return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Make text from outside one line that Markdown and HTML take literally."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~$]|^[#+>-])", r"\\\1", line)


def table(header: list[str], align: str, rows: list[list[str]]) -> list[str]:
    """Lines of a table; ``align`` holds ``l`` or ``r`` for each column."""
    rule = ["---:" if side == "r" else "---" for side in align]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _target(group: Group, report: Report) -> list[str]:
    lines = [_heading(group), ""]
    if group.target:
        lines += [_delivered(group), ""]
    header = ["model", metric_name(report), "change [95 %]", "p50", "vs export", "vs original", "size", "memory", "status"]
    lines += table(header, "lrrrrrrrl", [_row(model, group) for model in group.models])
    if group.target and group.target.checks:
        found = [
            [n.check_name(c.name), n.with_unit(c.limit, c.unit), n.check_value(c), f"{MARKS[c.status]} {c.status}", escape(c.message)]
            for c in group.target.checks
        ]
        lines += ["", *table(["budget", "limit", "found", "status", ""], "lrrll", found)]
    worst = _worst(group)
    notes = [f"- {', '.join(escape(name) for name in names)}: {escape(note)}" for note, names in notes_of(group).items()]
    others = _further(group)
    told = [["", line] for line in (others, worst) if line]
    return [*lines, *(line for pair in told for line in pair), *(["", *notes] if notes else []), *_command(group)]


def _heading(group: Group) -> str:
    if group.target is None:
        return f"### {escape(group.name or 'Models')}"
    return f"### {MARKS[group.target.status]} {escape(group.target.target)}: {group.target.status}"


def _delivered(group: Group) -> str:
    target = group.target
    if target is None or group.focus is None or not group.is_chosen(group.focus):
        return f"No model is delivered: {escape(target.reason if target else '')}"
    file = f" ({escape(group.focus.file)})" if group.focus.file else ""
    return f"Delivers **{escape(short(group.focus))}**{file} for {escape(target.title)}: {escape(target.reason)}."


def _command(group: Group) -> list[str]:
    """What to run on a device that was not at hand, in a fence that the text can't close."""
    if group.target is None or group.target.command is None or group.measured:
        return []
    text = "".join(c for c in group.target.command if c.isprintable() or c == "\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return ["", "Measure it on the device:", "", f"{fence}sh", text, fence]


def _row(model: ModelResult, group: Group) -> list[str]:
    accuracy, latency, memory = model.accuracy, model.latency, model.memory
    name = escape(short(model))
    status = group.status(model)
    basis = f" ({accuracy.basis})" if accuracy and accuracy.basis != "measured" else ""
    compared = latency if latency is not None and has_latency(model) and model.role != "original" else None
    return [
        f"**{name}**" if group.is_chosen(model) else name,
        n.percent(primary(model)) + basis,
        n.NOTHING if model.role == "original" else n.change(accuracy.change if accuracy else None),
        n.p50(latency) if group.shows_latency(model) or model.role != "original" else n.NOTHING,
        n.times(compared.speedup_runtime.value) if compared and compared.speedup_runtime and model.role == "candidate" else n.NOTHING,
        n.times(compared.speedup_original.value) if compared and compared.speedup_original else n.NOTHING,
        n.size(model.size.raw if model.size else None),
        n.megabytes(memory.peak_mb if memory else None) if group.shows_latency(model) else n.NOTHING,
        n.NOTHING if status is None else f"{MARKS[status]} {status}",
    ]


def _further(group: Group) -> str:
    """The focus's other metrics beside the original's."""
    original = next((further(model) for model in group.models if model.role == "original"), {})
    if group.focus is None or not further(group.focus):
        return ""
    told = [
        f"{escape(name)} {n.figure(value)}{f' (original {n.figure(original[name])})' if name in original else ''}"
        for name, value in further(group.focus).items()
    ]
    return f"Further metrics of {escape(short(group.focus))}: {', '.join(told)}."


def _worst(group: Group) -> str:
    model = group.focus
    if model is None or model.accuracy is None:
        return ""
    lost = [c for c in worst_first(model.accuracy.per_class) if c.change < 0]
    if not lost:
        return ""
    told = [f"{escape(c.name)} {n.signed(c.change)} ({c.samples} samples{', significant' if c.significant else ''})" for c in lost[:WORST]]
    more = f"; {len(lost) - WORST} more lost" if len(lost) > WORST else ""
    return f"Worst classes of {escape(short(model))}, points: {'; '.join(told)}{more}."


def _footer(report: Report) -> str:
    made = report.provenance
    data = made.evaluation or {}
    samples = max((m.accuracy.samples for m in report.models if m.accuracy), default=0)
    judged = f"{samples} samples of {escape(n.plain(data.get('name', 'the evaluation set')))}" if samples else "no evaluation"
    machine = f"{escape(made.machine.cpu)}, {made.machine.cores} cores"
    return f"<sub>edgekit {escape(made.edgekit)} · {judged} · seed {made.seed} · {machine} · details in report.html</sub>"
