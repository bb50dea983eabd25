"""Opens a described set and streams it: select, read, check, preprocess, batch; never more than one batch in memory."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core import digest, registry
from edgekit.core.artifacts import Batch
from edgekit.core.datasets import Boxes, DataSet, Mask, Record, TrainingSet
from edgekit.core.errors import DataError, RecipeError
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._align import Spans, answers, open_spans, tags
from edgekit.data._files import fingerprint
from edgekit.data._labels import Label, Labels
from edgekit.data._spec import DataSetSpec, Role, Selection, choose_split, find, load_spec
from edgekit.data._tokenize import Encoder, Tokenize, open_tokenizer, tokenizer_digest, tokenizer_folder

SEQUENCE = "sequence"
"""Symbol of the axis of tokens."""
BLOCK_BYTES = 1 << 28
"""Raw samples in memory at a time when they are read in random order."""


def open_dataset(reference: str, *, role: Role, base: Path, model: Path | None = None, limit: int | None = None) -> TrainingSet:
    """Open a set that a recipe names.

    Args:
        reference: ``NAME`` of a bundled set or the path of a YAML file, with ``:SPLIT`` where not the split named like the role is meant.
        role: what the set is for.
        base: folder that relative paths start from.
        model: the model's folder, for sets whose tokenizer is the model's.
        limit: samples at most, spread evenly over the set.

    Raises:
        DataError: no such set or split, a wrong description, missing or changed files, an empty set.
    """
    path, wanted = find(reference, base)
    spec = load_spec(path)
    name = spec.name or path.stem
    split = choose_split(spec, name, wanted, role)
    name = f"{name}:{split}" if split else name
    return StoredSet(name, spec, spec.select(split), path.parent, model, limit)


def splits(reference: str, base: Path) -> tuple[str, ...]:
    """Names of the splits among which a reference may choose; none where it names one, or the set has none.

    Raises:
        DataError: no such set, or a wrong description.
    """
    path, wanted = find(reference, base)
    return () if wanted else tuple(load_spec(path).splits)


def check_disjoint(calibration: DataSet, evaluation: DataSet) -> None:
    """Make sure that no evaluation sample was seen in calibration or training, whatever its file is called.

    Raises:
        DataError: says how many samples coincide, and the first.
    """
    seen = {bytes.fromhex(sample) for sample in calibration.sample_digests()}
    shared = [index for index, sample in enumerate(evaluation.sample_digests()) if bytes.fromhex(sample) in seen]
    if shared:
        raise DataError(
            f"{len(shared)} of {len(evaluation)} samples of {evaluation.name} stand in {calibration.name} too, first number {shared[0]}",
            hint="evaluate on samples that calibration never saw: another split, or other rows",
        )


class StoredSet(TrainingSet):
    """A set that a reader plugin streams from storage."""

    def __init__(self, name: str, spec: DataSetSpec, selection: Selection, base: Path, model: Path | None, limit: int | None) -> None:
        self.name = name
        self._spec = spec
        self._selection = selection
        self._base = base
        self._limit = limit
        self._reader = _reader(selection.read, name)
        self._files = fingerprint(self._reader.files(base), spec.sha256, name, spec.origin.url)
        self._stored = self._reader.count(base)
        self._indices = _spread(_select(selection, self._stored, name), limit)
        self.classes = _classes(spec, base) or self._reader.classes(base)
        self._labels = Labels(self.classes, spec.first_label, name)
        self._tokenizer = tokenizer_folder(spec.tokenize, base, model) if spec.tokenize else None
        self._encoder: Encoder | None = None
        self._spans: Spans | None = None
        self._kept: dict[int, Record] = {}
        self._digest = ""

    @property
    def digest(self) -> str:
        """SHA-256 over everything that decides the samples: description, selection, files, tokenizer."""
        if not self._digest:
            content = {
                "read": self._selection.read,
                "files": self._files or [[_content(r), _in_full(r.label)] for _, r in self._read(self._indices)],
                "selection": [self._selection.rows, self._selection.count, self._selection.seed, self._limit, self._stored],
                "classes": self.classes,
                "first_label": self._spec.first_label,
                "preprocess": self._selection.preprocess.model_dump() if self._selection.preprocess else None,
                "tokenize": self._spec.tokenize.model_dump() if self._spec.tokenize else None,
                "tokenizer": tokenizer_digest(self._tokenizer) if self._tokenizer else None,
            }
            self._digest = digest.of_json(content)
        return self._digest

    @property
    def varying(self) -> Mapping[str, Mapping[int, str]]:
        """The tokens of texts that are not all padded alike."""
        if not self.lengths:
            return {}
        _, first = next(self._read(self._indices[:1]))
        texts = [name for name, value in first.values.items() if isinstance(value, str)]
        return {name: {1: SEQUENCE} for name in self._encode(texts, [first])}

    @property
    def lengths(self) -> tuple[int, ...]:
        """As ``tokenize`` says."""
        return self._spec.tokenize.lengths if self._spec.tokenize else ()

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the samples come from and what was done to them."""
        many = len(self._files) > 8
        return {
            "name": self.name,
            "title": self._spec.title,
            "origin": self._spec.origin.model_dump(),
            "files": {f"{len(self._files)} files": digest.of_json(self._files)} if many else self._files,
            "read": self._selection.read,
            "samples": len(self),
            "stored": self._stored,
            "rows": self._selection.rows,
            "count": self._selection.count,
            "seed": self._selection.seed,
            "classes": len(self.classes),
            "preprocess": self._selection.preprocess.model_dump(mode="json") if self._selection.preprocess else None,
            "tokenize": self._spec.tokenize.model_dump(mode="json") if self._spec.tokenize else None,
            "digest": self.digest,
        }

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._indices)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield inputs [size, ...] (the last batch may be smaller) with their labels.

        Raises:
            DataError: a sample is damaged, not finite, mislabelled, or differs in shape from its neighbours.
        """
        for batch in _grouped(self._read(_spread(self._indices, limit)), size):
            yield self._sides(batch)

    def shuffled(self, size: int, seed: int) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield every sample once, in an order that the seed decides; blocks of the order are read in the order of the storage.

        A set that fits one block is read and decoded once, however often it is gone through.

        Raises:
            DataError: as for :meth:`batches`.
        """
        order = np.asarray(self._indices)[np.random.RandomState(seed).permutation(len(self))].tolist()
        block = len(order) if self._kept else self._block(size)
        if block >= len(order) and not self._kept:
            self._kept = dict(self._read(self._indices))
        for start in range(0, len(order), block):
            take = self._kept.__getitem__ if self._kept else dict(self._read(sorted(order[start : start + block]))).pop
            for group in _grouped(((index, take(index)) for index in order[start : start + block]), size):
                yield self._sides(group)

    def parted(self, share: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
        """Divide the set at random: what is left, and the share of it that is held out.

        Raises:
            DataError: a single sample can't be divided.
        """
        if len(self) < 2:
            raise DataError(f"data set {self.name}: one sample can't be divided into two parts", hint="give more samples")
        order = np.random.RandomState(seed).permutation(len(self))
        held = min(max(1, round(share * len(self))), len(self) - 1)
        return self._part(np.sort(order[held:]), "rest"), self._part(np.sort(order[:held]), "held out")

    def _part(self, positions: np.ndarray, name: str) -> StoredSet:
        part = copy(self)
        part.name = f"{self.name} ({name})"
        part._indices = _indices(np.asarray(self._indices)[positions])
        part._kept = {}
        part._digest = digest.of_json([self.digest, positions.tolist()])
        return part

    def _block(self, size: int) -> int:
        """Samples to hold at once when reading at random: whole batches that fit :data:`BLOCK_BYTES`, at least one."""
        _, first = next(self._read(self._indices[:1]))
        held = sum(len(v) if isinstance(v, str) else v.nbytes for v in first.values.values())
        return max(1, BLOCK_BYTES // max(held, 1) // size) * size

    def sample_digests(self) -> Iterator[str]:
        """Yield the SHA-256 of each sample's pixels, numbers or words; names, labels and preprocessing don't enter."""
        for _, record in self._read(self._indices):
            yield _content(record)

    def metadata(self) -> list[dict[str, str]]:
        """Further columns of each sample, in order."""
        found = [record.metadata for _, record in islice(self._read(self._indices), 1)]
        if not any(found):
            return [{} for _ in range(len(self))]
        return [record.metadata for _, record in self._read(self._indices)]

    def _read(self, indices: Sequence[int]) -> Iterator[tuple[int, Record]]:
        records = self._reader.stream(self._base, indices)
        for index in indices:
            record = next(records, None)
            if record is None:
                raise DataError(f"data set {self.name}: ends before sample {index} of {self._stored}", hint="was its storage changed?")
            _check(record, index, self.name)
            yield index, record

    def _sides(self, group: list[tuple[int, Record]]) -> tuple[Batch, list[Any]]:
        """Inputs and labels of a batch."""
        records = [record for _, record in group]
        if self._spec.tokenize is None or self._spec.tokenize.labels == "whole":
            labels: list[Any] = [self._label(record, index) for index, record in group]
            return self._inputs(records), labels
        inputs = self._inputs(records)
        return inputs, self._aligned(group, self._spec.tokenize, next(iter(inputs.values())).shape[1])

    def _aligned(self, group: list[tuple[int, Record]], spec: Tokenize, length: int) -> list[Any]:
        """Labels of parts of a text, laid over tokens."""
        if self._tokenizer is None:
            raise DataError(f"data set {self.name}: no tokenizer", hint="set tokenize.tokenizer")
        self._spans = self._spans or open_spans(spec, self._tokenizer)
        texts = [[str(value) for value in record.values.values() if isinstance(value, str)] for _, record in group]
        paired = len(texts[0]) > 1
        spans = self._spans([text[0] for text in texts], [text[1] for text in texts] if paired else None, length)
        labels: list[Any] = []
        for (index, record), text, covered in zip(group, texts, spans, strict=True):
            where = f"data set {self.name}: sample {index}"
            if spec.labels == "answers":
                labels.append(answers(record.label, text[-1], covered, where))
            else:
                labels.append(tags(record.label, text[0], covered, partial(self._labels.number, sample=index), where))
        return labels

    def _label(self, record: Record, index: int) -> Label:
        steps = self._selection.preprocess
        if isinstance(record.label, Boxes | Mask) and steps and steps.crop is not None:
            raise DataError(f"data set {self.name}: a crop cuts boxes and masks off", hint="resize: [height, width] keeps it whole")
        return self._labels.number(record.label, index)

    def _inputs(self, records: list[Record]) -> Batch:
        texts = [name for name, value in records[0].values.items() if isinstance(value, str)]
        batch = {name: self._stack(name, records) for name in records[0].values if name not in texts}
        return batch | self._encode(texts, records) if texts else batch

    def _stack(self, name: str, records: list[Record]) -> np.ndarray:
        steps = self._selection.preprocess
        try:
            arrays = [np.asarray(record.values[name]) for record in records]
            arrays = [steps.apply(raw) for raw in arrays] if steps else arrays
        except DataError as problem:
            raise DataError(f"data set {self.name}: {problem.message}", hint=problem.hint) from problem
        shapes = {made.shape for made in arrays}
        if len(shapes) > 1:
            raise DataError(
                f"data set {self.name}: samples of different shapes, {' and '.join(str(list(s)) for s in sorted(shapes)[:2])}",
                hint="bring them to one with preprocess: {resize: ..., crop: ...}",
            )
        return np.stack(arrays)

    def _encode(self, texts: list[str], records: list[Record]) -> Batch:
        if self._spec.tokenize is None or self._tokenizer is None:
            raise DataError(f"data set {self.name}: holds texts, a model takes numbers", hint="add tokenize: {length: 128}")
        if len(texts) > 2:
            raise DataError(f"data set {self.name}: {len(texts)} texts a sample, a tokenizer takes one or two", hint="join some of them")
        if self._encoder is None:
            self._encoder = open_tokenizer(self._spec.tokenize, self._tokenizer)
        columns = [[str(record.values[name]) for record in records] for name in texts]
        return self._encoder(columns[0], columns[1] if len(columns) > 1 else None)


def _reader(wish: dict[str, Any], name: str) -> Reader:
    try:
        return registry.create(Reader, wish, f"data set {name}: read")
    except RecipeError as problem:
        raise DataError(problem.message, hint=problem.hint) from problem


def _select(selection: Selection, stored: int, name: str) -> Sequence[int]:
    """Turn rows, count and seed into ascending indices."""
    if stored == 0:
        raise DataError(f"data set {name}: holds no samples", hint="check path, prefix and pattern of 'read'")
    start, stop = selection.rows or (0, stored)
    if stop > stored:
        raise DataError(f"data set {name}: rows end at {stop}, there are {stored} samples", hint=f"let them end at {stored}")
    count = selection.count
    if count is None:
        return range(start, stop)
    if count > stop - start:
        raise DataError(f"data set {name}: count is {count}, there are {stop - start} samples", hint="lower it, or leave it out")
    # RandomState: NumPy freezes its stream for all time, so a seed means the same samples after any upgrade.
    return _indices(np.sort(np.random.RandomState(selection.seed).permutation(stop - start)[:count]) + start)


def _spread(indices: Sequence[int], limit: int | None) -> Sequence[int]:
    if limit is not None and limit < 1:
        raise DataError(f"a set can't be limited to {limit} samples", hint="give at least 1")
    if limit is None or limit >= len(indices):
        return indices
    return _indices(np.asarray(indices)[np.arange(limit) * len(indices) // limit])


def _indices(numbers: np.ndarray) -> Sequence[int]:
    return array("q", numbers.astype(np.int64).tobytes())


def _classes(spec: DataSetSpec, base: Path) -> tuple[str, ...]:
    if not isinstance(spec.classes, str):
        return spec.classes
    path = expand(spec.classes, base)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: the list of classes can't be read ({problem})", hint="name a text file, one class a line") from problem
    return tuple(line.strip() for line in lines if line.strip())


def _check(record: Record, index: int, name: str) -> None:
    for key, value in record.values.items():
        if isinstance(value, str):
            continue
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"data set {name}: sample {index} holds NaN or infinite values ({key})", hint="remove or mend that sample")
        if value.dtype.kind not in "biuf":
            raise DataError(f"data set {name}: sample {index} is made of {value.dtype}, not of numbers ({key})", hint="store plain numbers")


def _content(record: Record) -> str:
    sha = hashlib.sha256()
    for _, value in sorted(record.values.items()):
        if isinstance(value, str):
            sha.update(b"text\0" + " ".join(value.split()).encode() + b"\0")
        else:
            shape = [size for size in value.shape if size != 1]
            sha.update(f"{value.dtype.str}{shape}\0".encode() + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def _in_full(label: Any) -> str:
    """A label as text that leaves nothing of its arrays out."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return str(label)


def _grouped(items: Iterable[tuple[int, Record]], size: int) -> Iterator[list[tuple[int, Record]]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
