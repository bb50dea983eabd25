"""Memory must not grow with the number of samples read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import check_disjoint, open_dataset

from .conftest import Describe, picture, png, write_tar

N = {"npz": 10_000, "npz-compressed": 10_000, "text": 10_000, "blob": 2_000, "tar": 2_000}
"""Decoding pictures under tracemalloc is slow, so those sets are smaller."""
CONSTANT = 32 << 10
"""Bytes that may come and go whatever is read: buffers, interned strings, the garbage collector's rhythm."""


def store(kind: str, base: Path) -> dict[str, Any]:
    rng, many = np.random.default_rng(0), N[kind]
    if kind in ("npz", "npz-compressed"):
        save = np.savez if kind == "npz" else np.savez_compressed
        save(base / "a.npz", x=rng.integers(0, 256, (many, 16, 16, 3), dtype=np.uint8), y=rng.integers(0, 9, many))
        return {"use": "npz", "path": "a.npz", "inputs": {"input": "x"}, "labels": "y"}
    if kind == "blob":
        files = [png(picture(i, 8, 8)) for i in range(100)] * (many // 100)
        blob = np.frombuffer(b"".join(files), np.uint8)
        np.savez(base / "a.npz", blob=blob, offset=np.cumsum([0, *map(len, files)]), y=rng.integers(0, 9, many))
        return {"use": "npz", "path": "a.npz", "inputs": {"input": "blob"}, "offsets": "offset", "labels": "y"}
    if kind == "tar":
        files = [png(picture(i, 8, 8)) for i in range(100)]
        write_tar(base / "a.tar", {f"{i:05}.png": files[i % 100] for i in range(many)})
        return {"use": "images", "path": "a.tar"}
    (base / "a.tsv").write_text("".join(f"good film {i}\t{i % 2}\n" for i in range(many)), encoding="utf-8")
    return {"use": "text", "path": "a.tsv", "text": 0, "label": 1}


def peak(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["npz", "npz-compressed", "blob", "tar", "text"])
def test_thousands_of_samples_need_no_more_memory_than_a_hundred(kind: str, tmp_path: Path, describe: Describe, bert_folder: Path) -> None:
    extra = {"tokenize": {"length": 16}} if kind == "text" else {"preprocess": {"scale": "1/255"}}
    reference = describe(read=store(kind, tmp_path), **extra)
    data = open_dataset(reference, role="calibration", base=tmp_path, model=bert_folder)

    def read(samples: int) -> None:
        assert sum(len(labels) for _, labels in data.batches(8, limit=samples)) == samples

    read(10)
    few, many = peak(lambda: read(100)), peak(lambda: read(N[kind]))
    assert many <= 1.1 * few + CONSTANT, f"{few} bytes for 100 samples, {many} for {N[kind]}"


def test_a_larger_file_needs_no_more_memory(tmp_path: Path, describe: Describe) -> None:
    def read(samples: int) -> int:
        np.savez_compressed(tmp_path / f"{samples}.npz", x=np.zeros((samples, 64, 64), np.float32))
        read = {"use": "npz", "path": f"{samples}.npz", "inputs": {"input": "x"}}
        data = open_dataset(describe(read=read), role="evaluation", base=tmp_path)
        next(data.batches(4))
        return peak(lambda: sum(1 for _ in data.batches(4)))

    assert read(2000) <= 1.1 * read(50) + CONSTANT


def test_the_check_for_shared_samples_keeps_only_digests(tmp_path: Path, describe: Describe) -> None:
    read = store("npz", tmp_path)
    calibration = open_dataset(describe(read=read, rows=[0, 300]), role="calibration", base=tmp_path)
    evaluation = open_dataset(describe(read=read, rows=[300, 3000]), role="evaluation", base=tmp_path)
    assert peak(lambda: check_disjoint(calibration, evaluation)) < 1 << 20
