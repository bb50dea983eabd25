"""What a bundle says to applications and auditors: how to feed the model, how to read it, where it comes from, under which licences."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

from edgekit.core.plugin import Task
from edgekit.core.registry import load
from edgekit.runner.runtimes import runtime_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.core.artifacts import TensorSpec
    from edgekit.core.datasets import DataSet
    from edgekit.core.report import ModelResult, Report
    from edgekit.deploy.samples import Facts


def interface(report: Report, model: ModelResult, file: str, facts: Facts, data: DataSet) -> bytes:
    """``io.json``: inputs with their preprocessing, outputs with their meaning; enough for a program in any language."""
    told = data.provenance
    return pretty(
        {
            "schema": 1,
            "model": file,
            "format": model.format,
            "precision": model.precision,
            "inputs": [_spec(spec) for spec in facts.inputs],
            "outputs": [_spec(spec) for spec in facts.outputs],
            "preprocess": told.get("preprocess"),
            "tokenize": told.get("tokenize"),
            "task": report.task,
            "postprocess": load(Task, report.task).reading,
            "labels": "labels.txt" if data.classes else None,
        }
    )


def labels(classes: Sequence[str]) -> bytes:
    """``labels.txt``: the class of index N in line N, counted from 0."""
    return "".join(f"{' '.join(name.split())}\n" for name in classes).encode()


def licences(report: Report, runtime: str) -> bytes:
    """``licences.txt``: what is known of the licences of data, runtime and runner; of the model, only its owner knows."""
    lines = [
        f"Model {report.name}: its licence is that of the checkpoint it was made from (digest {report.provenance.source.get('digest')}).",
        "Runner and agent (agent.pyz): edgekit, Apache-2.0.",
    ]
    lines += [f"Runtime, not in this bundle: {name}, {licence}." for name, licence in runtime_licences(runtime).items()]
    for role in ("calibration", "training", "evaluation"):
        told: dict[str, Any] = getattr(report.provenance, role) or {}
        origin = told.get("origin") or {}
        if told:
            lines.append(f"Data of {role}: {told.get('title') or told.get('name')}, {origin.get('licence', 'licence not stated')}.")
    lines.append("The self-test holds a few samples of the evaluation data.")
    return "".join(f"{line}\n" for line in lines).encode()


def runtime_licences(runtime: str) -> dict[str, str]:
    """Licence of each distribution that a runtime consists of, as it states it."""
    found = {}
    for name in runtime_class(runtime).PACKAGES:
        try:
            told = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        stated = told["License-Expression"] or told["License"] or "licence not stated"
        found[name] = stated.splitlines()[0][:80]
    return found


def provenance(report: Report, model: ModelResult, edgekit: str) -> dict[str, Any]:
    """What the manifest keeps of the run: digests, and numbers as text, since signed JSON has no fractions."""
    accuracy, told = model.accuracy, report.provenance
    return {
        "edgekit": edgekit,
        "report_sha256": _digest(report),
        "source": told.source.get("digest"),
        "calibration": (told.calibration or {}).get("digest"),
        "evaluation": (told.evaluation or {}).get("digest"),
        "training": (told.training or {}).get("digest"),
        "packages": dict(told.packages),
        "format": model.format,
        "precision": model.precision,
        "status": report.status,
        "accuracy": f"{accuracy.primary} {accuracy.metrics[accuracy.primary]:.2f} ({accuracy.basis}, N={accuracy.samples})"
        if accuracy
        else None,
    }


def pretty(value: Any) -> bytes:
    """JSON for people, the same bytes each time."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _digest(report: Report) -> str:
    from edgekit.core import digest

    return digest.of_bytes(report.to_json().encode())


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
