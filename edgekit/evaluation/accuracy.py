"""Accuracy beside the original: first observe each model on the same samples, then judge from what was kept.

Observing runs a model once over the set and leaves one row of numbers a sample on disk; judging reads rows only. So intervals, classes
and slices cost no further inference, and a model that was observed once is never run again for another question.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from edgekit.algorithms import statistics
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import DataSet
from edgekit.core.errors import DataError, ExportError, QuantizationError, SourceError
from edgekit.core.figures import Draw
from edgekit.core.plugin import Session, Task
from edgekit.core.progress import Progress
from edgekit.core.report import Accuracy, Basis, ClassChange, Interval
from edgekit.evaluation.outputs import align
from edgekit.evaluation.rows import RowReader, RowWriter

OBSERVATIONS = "observations.npy"
CIRCUMSTANCES = "circumstances.json"
SLICE_VALUES = range(2, 51)
"""How many distinct values a metadata column may have to be a slice; an identifier is none."""
_SLOW_RESAMPLES = 500
_TELLING = 20
"""Rows without which a mean may equal a metric by chance."""


def observe(session: Session, data: DataSet, task: Task, out: Path, *, original: Path | None, progress: Progress, batch: int = 1) -> None:
    """Run a model over a set and keep what judges it: observations, raw outputs and circumstances, below ``out``.

    Args:
        session: the loaded model.
        data: the evaluation set.
        task: makes observations of outputs.
        out: folder to fill.
        original: folder that observing the original on the same set has filled; None for the original itself.
        progress: told how many samples are done.
        batch: samples a run.

    Raises:
        SourceError: the original gives numbers that are not finite.
        QuantizationError: a candidate does.
        DataError: outputs vary in shape, or the original was observed on another set.
        ExportError: a candidate's outputs differ from the original's in number, names or shape.
    """
    about = _about(original) if original else {}
    if original and (about["data"], about["samples"]) != (data.digest, len(data)):
        raise DataError("the original was observed on another set", hint="observe original and candidate on the same set")
    names: list[str] = about.get("outputs", [])
    (out / "outputs").mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        observations = files.enter_context(RowWriter(out / OBSERVATIONS, len(data)))
        writers: dict[str, RowWriter] = {}
        readers = {n: files.enter_context(RowReader(output_file(original, n))) for n in names} if original else {}
        done = 0
        for inputs, labels in data.batches(batch):
            found = session.run(inputs)
            names = names or list(found)
            outputs = align(found, names)
            kept = task.kept(outputs)
            _check(kept, len(labels), done, writers, SourceError if original is None else QuantizationError)
            if not writers:
                _same_rows(kept, readers)
                writers.update({n: files.enter_context(RowWriter(output_file(out, n), len(data))) for n in names})
            for name, values in kept.items():
                writers[name].write(_plain(values))
            reference = {n: r.take(len(labels)) for n, r in readers.items()} if original else kept
            observations.write(task.observe(outputs, labels, reference))
            done += len(labels)
            progress.advance(done, len(data))
    circumstances = {k: v for k, v in session.circumstances.items() if k != "runtime_memory"}  # differs from run to run
    content = {"circumstances": circumstances, "outputs": names, "samples": len(data), "data": data.digest}
    (out / CIRCUMSTANCES).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def output_file(folder: Path, name: str) -> Path:
    """Where the raw outputs of a name lie in an observed folder; names may hold slashes and colons."""
    return folder / "outputs" / f"{quote(name, safe='')}.npy"


def output_names(folder: Path) -> list[str]:
    """Names of the raw outputs in an observed folder, in the original's order."""
    names: list[str] = _about(folder)["outputs"]
    return names


def judge(
    task: Task,
    original: Path,
    candidate: Path,
    data: DataSet,
    *,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
    basis: Basis = "measured",
) -> Accuracy:
    """Compare a candidate with the original, sample by sample.

    Args:
        task: computes metrics of observations.
        original: folder of the original's observations.
        candidate: folder of the candidate's, or the same folder for the original's own accuracy.
        data: the set both were observed on; gives class names and metadata.
        resamples: bootstrap resamples.
        seed: of the resampling.
        basis: whether the candidate ran on its target's own kernels or on an emulation.

    Raises:
        DataError: the two were observed on different sets, or the set is empty.
    """
    about, before = _about(candidate), _about(original)
    if (about["data"], about["samples"]) != (before["data"], before["samples"]) or about["data"] != data.digest:
        raise DataError("original and candidate were not observed on the same samples", hint="observe both on the same set")
    if not about["samples"]:
        raise DataError(f"{data.name}: holds no samples", hint="choose a set or a split with samples")
    same = original.resolve() == candidate.resolve()
    pair = _pair(task, np.load(original / OBSERVATIONS), np.load(candidate / OBSERVATIONS), same, resamples, seed)
    everything = np.arange(len(pair.first))
    changed = task.predictions(pair.first) != task.predictions(pair.second)
    right = pair.right
    return Accuracy(
        basis=basis,
        samples=len(everything),
        metrics=task.metrics(pair.second),
        primary=task.primary,
        change=pair.change(everything),
        p_value=None if right is None else statistics.mcnemar(*_discordant(right, everything)),
        changed=100 * float(np.mean(changed)),
        per_class=_by_class(pair, lambda k: _class_name(data.classes, k)),
        per_slice={column: _by_group(pair, values, str) for column, values in _slices(data.metadata()).items()},
        circumstances=about["circumstances"],
    )


@dataclass(frozen=True)
class _Pair:
    """Observations of two models on the same samples.

    Attributes:
        task: the task that made them.
        first: the original's rows [N, C].
        second: the candidate's rows [N, C].
        right: whether original and candidate are right [2, N], where the task knows right and wrong.
        values: the metric's per-sample values [2, N] in points, where the primary metric is their mean.
        shares: whether that mean is the share of right answers.
        same: whether both are one model, so that nothing can have changed.
        resamples: bootstrap resamples.
        seed: of the resampling.
    """

    task: Task
    first: np.ndarray
    second: np.ndarray
    right: np.ndarray | None
    values: np.ndarray | None
    shares: bool
    same: bool
    resamples: int
    seed: int

    def metric(self, rows: np.ndarray) -> float:
        """Primary metric of some rows."""
        return float(self.task.metrics(rows)[self.task.primary])

    def change(self, index: np.ndarray, confidence: float = statistics.CONFIDENCE) -> Interval:
        """Change of the primary metric on some samples, in points."""
        if self.same:
            return Interval(value=0.0, low=0.0, high=0.0)
        if self.shares and self.right is not None and confidence == statistics.CONFIDENCE:
            share = statistics.share_change(*_discordant(self.right, index), len(index), resamples=self.resamples, seed=self.seed)
            return Interval(value=100 * share.value, low=100 * share.low, high=100 * share.high)
        if self.values is not None:
            differences = self.values[1, index] - self.values[0, index]
            return statistics.mean_change(differences, resamples=self.resamples, seed=self.seed, confidence=confidence)
        few = self.resamples if len(index) == len(self.first) else min(self.resamples, _SLOW_RESAMPLES)
        before, after = (_primary(self.task.figures(rows[index])) for rows in (self.first, self.second))
        value, drawn = statistics.figure_changes(before, after, len(index), resamples=few, seed=self.seed)
        return statistics.interval_of(float(value[0]), drawn[:, 0], len(index), confidence=confidence)


def _pair(task: Task, first: np.ndarray, second: np.ndarray, same: bool, resamples: int, seed: int) -> _Pair:
    known = task.correct(first), task.correct(second)
    right = None if known[0] is None or known[1] is None else np.stack([known[0], known[1]]).astype(bool)
    rows = np.concatenate([first, second])
    shares = right is not None and _is_mean(task, rows, 100.0 * right.reshape(-1))
    values = 100.0 * right if shares and right is not None else _column(task, rows)
    return _Pair(task, first, second, right, values, shares, same, resamples, seed)


def _column(task: Task, rows: np.ndarray) -> np.ndarray | None:
    """Find the column of observations whose mean the primary metric is, if there is one: its intervals then cost next to nothing."""
    if rows.ndim != 2 or len(rows) < _TELLING:
        return None
    wanted = task.metrics(rows)[task.primary]
    for column in rows.T.astype(np.float64):
        for scale in (100.0, 1.0):
            values: np.ndarray = scale * column
            if np.isclose(values.mean(), wanted, rtol=1e-6, atol=1e-9) and _is_mean(task, rows, values):
                return values.reshape(2, -1)
    return None


def _is_mean(task: Task, rows: np.ndarray, values: np.ndarray) -> bool:
    """Whether the primary metric is the mean of per-sample values, judged on several parts of the rows."""
    n = len(rows)
    parts = [slice(None), slice(0, max(1, n // 2)), slice(0, n, 2), slice(n // 3, None), slice(0, n, 7)]
    return all(np.isclose(task.metrics(rows[part])[task.primary], values[part].mean(), rtol=1e-6, atol=1e-9) for part in parts)


def _by_class(pair: _Pair, name: Callable[[Any], str]) -> tuple[ClassChange, ...]:
    """Compare the models on each class: one a sample, or several, or none."""
    held = pair.task.holds(pair.first)
    if held is not None:
        return _by_held(pair, held, name)
    classes = pair.task.groups(pair.first)
    return () if classes is None else _by_group(pair, classes, name)


def _by_held(pair: _Pair, held: np.ndarray, name: Callable[[Any], str]) -> tuple[ClassChange, ...]:
    """Compare the models on each class that any sample holds; whole samples are resampled, with all that they hold."""
    n, present = len(held), np.flatnonzero(held.any(axis=0))
    before, after = (_of_classes(pair.task.figures(rows), present) for rows in (pair.first, pair.second))
    resamples = 1 if pair.same else pair.resamples
    values, drawn = statistics.figure_changes(before, after, n, resamples=resamples, seed=pair.seed)
    once = np.ones(n, np.int64)
    strict = 1 - (1 - statistics.CONFIDENCE) / len(present)
    found = []
    for place, (key, original, candidate) in enumerate(zip(present, before(once), after(once), strict=True)):
        change, column = float(values[place]), drawn[:, place]
        usual, wide = (statistics.interval_of(change, column, n, confidence=c) for c in (statistics.CONFIDENCE, strict))
        found.append(
            ClassChange(
                name=name(key),
                samples=int(held[:, key].sum()),
                original=float(original),
                candidate=float(candidate),
                change=change,
                low=0.0 if pair.same else usual.low,
                high=0.0 if pair.same else usual.high,
                significant=not pair.same and (wide.low > 0 or wide.high < 0),
            )
        )
    return tuple(found)


def _primary(draw: Draw) -> statistics.Figured:
    return lambda counts: np.array([draw(counts).primary])


def _of_classes(draw: Draw, present: np.ndarray) -> statistics.Figured:
    return lambda counts: np.asarray(draw(counts).classes)[present]


def _by_group(pair: _Pair, keys: np.ndarray, name: Callable[[Any], str]) -> tuple[ClassChange, ...]:
    """Compare the models on each group of samples; significance is corrected for the number of groups."""
    found, inverse = np.unique(keys, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    changes = [pair.change(index) for index in members]
    if pair.right is not None:
        chances = statistics.holm([statistics.mcnemar(*_discordant(pair.right, index)) for index in members])
        significant = [bool(p < 1 - statistics.CONFIDENCE) for p in chances]
    else:
        strict = [pair.change(index, 1 - (1 - statistics.CONFIDENCE) / len(members)) for index in members]
        significant = [interval.low > 0 or interval.high < 0 for interval in strict]
    return tuple(
        ClassChange(
            name=name(key),
            samples=len(index),
            original=pair.metric(pair.first[index]),
            candidate=pair.metric(pair.second[index]),
            change=change.value,
            low=change.low,
            high=change.high,
            significant=sure,
        )
        for key, index, change, sure in zip(found, members, changes, significant, strict=True)
    )


def _discordant(right: np.ndarray, index: np.ndarray) -> tuple[int, int]:
    """Number of samples that only the original has right, and that only the candidate has right."""
    before, after = right[0, index], right[1, index]
    return int(np.sum(before & ~after)), int(np.sum(after & ~before))


def _slices(metadata: Sequence[dict[str, str]]) -> dict[str, np.ndarray]:
    columns = dict.fromkeys(column for row in metadata for column in row)
    values = {column: np.array([row.get(column, "") for row in metadata]) for column in columns}
    return {column: v for column, v in values.items() if len(np.unique(v)) in SLICE_VALUES}


def _class_name(classes: Sequence[str], group: Any) -> str:
    number = int(group)
    return classes[number] if 0 <= number < len(classes) else str(number)


def _check(outputs: Batch, size: int, done: int, writers: dict[str, RowWriter], error: type[SourceError | QuantizationError]) -> None:
    """Refuse outputs that can't be kept as rows, or that are no numbers."""
    for name, values in outputs.items():
        known = writers[name].row if writers else None
        if values.shape[:1] != (size,) or known not in (None, values.shape[1:]):
            expected = f"{size} rows of {known}" if known is not None else f"{size} rows"
            raise DataError(
                f"output {name!r} has shape {values.shape} at sample {done}, expected {expected}: varying outputs can't be compared",
                hint="give inputs of one size, or wrap the model so that each sample has outputs of a fixed shape",
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0]
            raise error(
                f"output {name!r} is {values[tuple(place)]} at sample {done + int(place[0])}, index {[int(i) for i in place[1:]]}",
                hint="check the weights and the preprocessing, or keep the layers before this output in float",
            )


def _same_rows(outputs: Batch, readers: dict[str, RowReader]) -> None:
    for name, reader in readers.items():
        if outputs[name].shape[1:] != reader.row:
            raise ExportError(
                f"output {name!r} has shape {list(outputs[name].shape[1:])} a sample, the original's has {list(reader.row)}",
                hint="export the model so that it gives the original's outputs in the original's layout",
            )


def _plain(values: np.ndarray) -> np.ndarray:
    """Half precision as float32, so that later arithmetic on rows does not round."""
    return values.astype(np.float32) if values.dtype.kind == "f" and values.dtype.itemsize < 4 else values


def _about(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / CIRCUMSTANCES).read_text(encoding="utf-8"))
    return content
