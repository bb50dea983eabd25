"""Accuracy-aware precision from a recipe: what it writes, what the report says, and what it must not look at."""

from __future__ import annotations

import json
from typing import Any

import pytest

import edgekit
from edgekit.core.progress import Silent
from edgekit.data._dataset import StoredSet

QUICK = {"rounds": 3, "round_seconds": 0.01, "resamples": 200}


class Watcher(Silent):
    """Knows which stage is at work."""

    def __init__(self) -> None:
        self.now = ""
        self.cached: list[str] = []

    def stage(self, name: str, *, cached: bool = False) -> None:
        self.now = name
        if cached:
            self.cached.append(name)


@pytest.fixture
def recipe(kit: Any) -> Any:
    def write(max_drop: float) -> Any:
        return kit.recipe(
            name="tiny",
            model=str(kit.graph()),
            precisions=["int8-static"],
            quantization={"accuracy_aware": True},
            budget={"max_drop": max_drop},
            measure=QUICK,
        )

    return write


def test_report_plan_and_record_say_what_was_found(kit: Any, recipe: Any) -> None:
    report = edgekit.compress(recipe(40.0), out=kit.out)
    (note,) = [note for note in report.model("host/onnxruntime-int8-static").notes if note.startswith("accuracy-aware")]
    assert "loses at most" in note
    assert "on 10 samples (tiny-set:calibration, every fourth, held out" in note
    (folder,) = [path for path in kit.out.iterdir() if path.is_dir()]
    record = json.loads((folder / "search.json").read_text())
    assert record["max_drop"] == 40
    assert record["met"] is True
    assert all(row["reason"] for row in json.loads((folder / "plan.json").read_text()) if row["precision"] == "fp32")


def test_the_report_says_when_the_budget_cannot_be_met(kit: Any, recipe: Any) -> None:
    report = edgekit.compress(recipe(0.0), out=kit.out)
    model = report.model("host/onnxruntime-int8-static")
    assert any("accuracy-aware: max_drop 0 can't be met with any layer in integers; the best found has" in note for note in model.notes)


def test_the_evaluation_set_is_not_read_by_the_search(kit: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher()
    read: dict[str, set[str]] = {}
    for method in ("batches", "sample_digests", "metadata"):
        original = getattr(StoredSet, method)

        def watched(self: StoredSet, *given: Any, _original: Any = original, **named: Any) -> Any:
            read.setdefault(watcher.now.split()[0], set()).add(self.name)
            return _original(self, *given, **named)

        monkeypatch.setattr(StoredSet, method, watched)
    edgekit.compress(recipe(40.0), out=kit.out, progress=watcher)
    assert read["search"] == {"tiny-set:calibration"}
    assert "tiny-set:evaluation" in read["evaluate"]


def test_a_stored_search_is_not_done_again(kit: Any, recipe: Any) -> None:
    first, second = Watcher(), Watcher()
    for watcher in (first, second):
        edgekit.compress(recipe(40.0), out=kit.out, progress=watcher)
    assert not first.cached
    assert any(name.startswith("search") for name in second.cached)
    third = Watcher()
    edgekit.compress(recipe(30.0), out=kit.out, progress=third)
    assert not any(name.startswith("search") for name in third.cached)
