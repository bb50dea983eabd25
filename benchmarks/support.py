"""Makes the support table by running it: every family in every format and precision, through the Python API.

    python -m benchmarks.support --work WORK [FAMILY...]      judge what is not judged yet
    python -m benchmarks.support --work WORK --time 110       race what is not raced yet, for so many seconds, on an idle machine
    python -m benchmarks.support --work WORK --table          write results/support.json and the table in the README

A cell's outcome lies in ``WORK/FAMILY/FORMAT-PRECISION.json``; a run that is stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.families import FAMILIES, HERE, SAMPLES, Family, samples

README = HERE.parent / "README.md"
RESULTS = HERE / "results" / "support.json"
START, END = "<!-- support -->", "<!-- end of support -->"
FORMATS = ("onnx", "openvino", "tflite")
PRECISIONS = ("fp32", "int8", "int4")
ROUNDS = 5
DIED = {"state": "refused", "reason": "the process died or was stopped"}
"""Outcome of a cell until it has one; remove its file to run it again."""


def main() -> None:
    """Judge, race, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families; all of them where left out")
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints, models and outcomes go")
    parser.add_argument("--time", type=float, default=0.0, help="race for about so many seconds")
    parser.add_argument("--table", action="store_true", help="write results and table from what is there")
    chosen = parser.parse_args()
    families = [family for family in FAMILIES if not chosen.names or family.name in chosen.names]
    if chosen.table:
        write(chosen.work.resolve())
    elif chosen.time:
        race(families, chosen.work.resolve(), time.monotonic() + chosen.time)
    else:
        judge(families, chosen.work.resolve())


def judge(families: list[Family], work: Path) -> None:
    """Run every cell that has no outcome yet."""
    for family, folder, form in rows(families, work):
        for precision in PRECISIONS:
            outcome = folder / f"{form}-{precision}.json"
            if not outcome.is_file() and not any(name not in os.environ for name in family.needs):
                outcome.write_text(json.dumps(DIED), encoding="utf-8")
                content = cell(family, folder, form, precision)
                outcome.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                print(f"{family.name:28} {form:9} {precision:5} {content['state']} {content.get('reason', '')}", flush=True)


def rows(families: list[Family], work: Path) -> Iterator[tuple[Family, Path, str]]:
    """Families with their folders, format by format: a run that is stopped has then seen many families."""
    for form in FORMATS:
        for family in families:
            folder = work / slug(family.name)
            folder.mkdir(parents=True, exist_ok=True)
            yield family, folder, form


def slug(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cell(family: Family, folder: Path, form: str, precision: str) -> dict[str, Any]:
    """Compress a family to one format and precision; a refusal is an outcome."""
    import edgekit
    from edgekit.core.errors import EdgekitError

    wanted = family.int8[form] if precision == "int8" else precision
    run = folder / f"{form}-{precision}"
    try:
        report = edgekit.compress(recipe(family, folder, form, wanted), out=run)
    except EdgekitError as problem:
        return {"state": "refused", "reason": problem.message}
    model = next(m for m in report.models if m.role != "original" and m.precision == wanted)
    original = next(m for m in report.models if m.role == "original")
    fp32 = next(m for m in report.models if m.role == "export")
    metric = model.accuracy.primary
    return {
        "state": "ok",
        "precision": wanted,
        "max_difference": model.agreement.max_error,
        "cosine": model.agreement.cosine,
        "metric": metric,
        "before": original.accuracy.metrics[metric],
        "after": model.accuracy.metrics[metric],
        "samples": model.accuracy.samples,
        "bytes": model.size.raw,
        "bytes_fp32": fp32.size.raw,
        "file": next(outcome for outcome in report.targets).target + "/" + Path(model.file or "").name,
        "packages": report.provenance.packages,
        "machine": report.provenance.machine.model_dump(mode="json"),
    }


def recipe(family: Family, folder: Path, form: str, precision: str) -> Any:
    """The recipe of one cell: a budget that nothing breaks, and a target that is not at hand, so that nothing is timed."""
    from edgekit.core.recipe import Recipe
    from edgekit.core.schema import parse

    content = real(family, folder) if family.recipe else random(family, folder)
    content |= {"name": "support", "targets": [str(untimed(folder.parent))], "formats": [form], "precisions": [precision]}
    content |= {"budget": {"max_drop": 100.0}, "measure": {"resamples": 100}}
    return parse(Recipe, content, family.name)


def real(family: Family, folder: Path) -> dict[str, Any]:
    """A recipe of the benchmarks without its passes, on some of its samples."""
    content: dict[str, Any] = yaml.safe_load((HERE / "recipes" / f"{family.recipe}.yaml").read_text(encoding="utf-8"))
    kept = ("schema", "model", "task", "data")
    named = content["data"] if isinstance(content["data"], dict) else dict.fromkeys(family.limits, content["data"])
    sets = {role: str(limited(named.get(role, named["calibration"]), role, count, folder)) for role, count in family.limits.items()}
    return {key: content[key] for key in kept} | {"base": HERE / "recipes", "data": sets}


def limited(reference: str, role: str, count: int, folder: Path) -> Path:
    """Describe a data set anew with so many samples, for one role."""
    from edgekit.core.factories import anchor
    from edgekit.core.resources import bundled, expand

    path = expand(reference, HERE / "recipes") if reference.endswith(".yaml") else bundled("calibration") / f"{reference}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for selection in (content, content.get("splits", {}).get(role, {})):
        reads = selection.get("read", {})
        if "path" in reads:
            reads["path"] = str(expand(reads["path"], path.parent))
        if "function" in reads:
            reads["function"] = anchor(reads["function"], path.parent)
    if isinstance(content.get("classes"), str):
        content["classes"] = str(expand(content["classes"], path.parent))
    content["splits"] = {role: {**content.get("splits", {}).get(role, {}), "count": count}}
    made = folder / f"{role}.yaml"
    made.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return made


def random(family: Family, folder: Path) -> dict[str, Any]:
    """A checkpoint and a set of random inputs, made when they are first asked for."""
    checkpoint = folder / "checkpoint"
    if not (folder / "model.yaml").is_file():
        checkpoint.mkdir(exist_ok=True)
        np.savez(folder / "inputs.npz", **samples(family))
        split = SAMPLES * 2 // 3
        splits = {"calibration": {"rows": [0, split]}, "evaluation": {"rows": [split, SAMPLES]}}
        described = {"schema": 1, "read": {"use": "npz", "path": "inputs.npz", "inputs": {name: name for name in family.inputs}}}
        (folder / "inputs.yaml").write_text(yaml.safe_dump({**described, "splits": splits}, sort_keys=False), encoding="utf-8")
        if family.make is None:
            raise ValueError(f"{family.name} has neither a recipe nor a random configuration")
        (folder / "model.yaml").write_text(yaml.safe_dump(family.make(checkpoint)), encoding="utf-8")
    model = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    content = {"schema": 1, "model": model, "task": "generic", "data": str(folder / "inputs.yaml"), "base": folder}
    return content | ({"parts": dict(family.parts)} if family.parts else {})


def untimed(work: Path) -> Path:
    """The profile of this machine's kind under a name of its own, as of a device that is elsewhere."""
    from edgekit.core.machine import this_machine
    from edgekit.core.target import load_target, nearest_profile, target_names

    path = work / "elsewhere.yaml"
    if not path.is_file():
        profiles = [load_target(name) for name in target_names() if name != "host"]
        nearest = nearest_profile(this_machine(), profiles)
        if nearest is None:
            raise SystemExit("no bundled profile fits this machine")
        content = nearest.model_dump(mode="json", by_alias=True, exclude_unset=True)
        content |= {"name": "elsewhere", "devices": ["nowhere"]}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def race(families: list[Family], work: Path, until: float) -> None:
    """Race each format's models of a family against its fp32 one, those with real checkpoints first."""
    import edgekit
    from edgekit.core.errors import EdgekitError

    for family, folder, form in sorted(rows(families, work), key=lambda row: not row[0].recipe):
        outcome = folder / f"{form}-race.json"
        made = {p: read(folder / f"{form}-{p}.json") for p in PRECISIONS}
        files = {p: folder / f"{form}-{p}" / c["file"] for p, c in made.items() if c.get("state") == "ok"}
        if outcome.is_file() or len(files) < 2 or "fp32" not in files:
            continue
        if time.monotonic() > until:
            return
        try:
            report = edgekit.benchmark(list(files.values()), rounds=ROUNDS)
        except EdgekitError as problem:
            content: dict[str, Any] = {"refused": problem.message}
        else:
            pairs = zip(files, report.models, strict=True)
            content = {
                p: {"p50_ms": m.latency.p50.value, "speedup": m.latency.speedup_runtime.value if p != "fp32" else 1.0} for p, m in pairs
            }
        outcome.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"{family.name:28} {form:9} {content}", flush=True)


def read(path: Path) -> dict[str, Any]:
    """A stored outcome; empty where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(work: Path) -> None:
    """Gather all outcomes into the results and the README's table."""
    found: list[dict[str, Any]] = []
    circumstances: dict[str, Any] = {}
    for family, folder, form in sorted(rows(list(FAMILIES), work), key=lambda row: (not row[0].recipe, FAMILIES.index(row[0]))):
        cells = {p: read(folder / f"{form}-{p}.json") for p in PRECISIONS}
        if not any(cells.values()):
            continue
        for content in cells.values():
            circumstances |= {key: content.pop(key) for key in ("packages", "machine") if key in content}
            content.pop("file", None)
        line = {"family": family.name, "checkpoint": "real" if family.recipe else "random", "format": form, "cells": cells}
        found.append({**line, "race": read(folder / f"{form}-race.json")})
    content = {"command": "python -m benchmarks.support --work WORK", **circumstances, "rows": found}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(START)
    README.write_text(f"{before}{START}\n" + "\n".join(table(found)) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")


def table(found: list[dict[str, Any]]) -> list[str]:
    """One line a family and format."""
    lines = ["| family | format | fp32 | int8 | int4 |", "| --- | --- | --- | --- | --- |"]
    for row in found:
        name = row["family"] if row["checkpoint"] == "real" else f"*{row['family']}*"
        cells = [shown(row["cells"][p], row["checkpoint"], row["race"].get(p)) for p in PRECISIONS]
        lines.append(f"| {name} | {row['format']} | " + " | ".join(cells) + " |")
    return lines


def shown(content: dict[str, Any], checkpoint: str, raced: dict[str, float] | None) -> str:
    """One cell: largest difference, metric before and after, times faster than fp32."""
    if not content:
        return "not run"
    if content["state"] == "refused":
        return f"refused: {content['reason'].split(';')[0][:90]}".replace("|", "/")
    parts = [f"{content['max_difference']:.0e}"]
    if checkpoint == "real":
        parts.append(f"{content['metric']} {content['before']:.1f} -> {content['after']:.1f}")
    elif content["precision"] != "fp32":
        parts.append(f"cosine {content['cosine']:.4f}")
    if raced and content["precision"] != "fp32":
        parts.append(f"{raced['speedup']:.1f}x")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
