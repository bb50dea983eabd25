"""Rows go to disk and come back without being held."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.evaluation.rows import RowReader, RowWriter, side_by_side


def test_what_is_written_in_batches_is_an_ordinary_npy_file(tmp_path):
    rows = np.arange(24, dtype=np.int64).reshape(4, 3, 2)
    with RowWriter(tmp_path / "a.npy", 4) as writer:
        writer.write(rows[:3])
        writer.write(rows[3:])
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows)
    assert np.load(tmp_path / "a.npy").dtype == np.int64


def test_rows_come_back_in_order_and_run_out(tmp_path):
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.save(tmp_path / "a.npy", rows)
    with RowReader(tmp_path / "a.npy") as reader:
        assert (reader.count, reader.row) == (5, (2,))
        assert np.array_equal(reader.take(2), rows[:2])
        assert np.array_equal(reader.take(2), rows[2:4])
        assert np.array_equal(reader.take(2), rows[4:])
        assert len(reader.take(2)) == 0


def test_a_set_that_gives_fewer_samples_than_promised_is_an_error(tmp_path):
    with pytest.raises(DataError, match="promises 3 samples and gives 2"), RowWriter(tmp_path / "a.npy", 3) as writer:
        writer.write(np.zeros((2, 1), np.float32))


def test_rows_of_another_shape_are_refused(tmp_path):
    writer = RowWriter(tmp_path / "a.npy", 2)
    writer.write(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(4,\) after rows of shape \(3,\)"):
        writer.write(np.zeros((1, 4), np.float32))


def test_files_of_different_length_can_not_be_read_side_by_side(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="holds"):
        list(side_by_side(tmp_path / "a.npy", tmp_path / "b.npy"))


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    row = np.zeros((10, 25_000), np.float32)
    with RowWriter(tmp_path / "a.npy", 10) as writer:
        writer.write(row)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RowWriter(tmp_path / "b.npy", 2000) as writer:
        for _ in range(200):
            writer.write(row)
    with RowReader(tmp_path / "b.npy") as reader:
        for _ in range(200):
            reader.take(10)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (tmp_path / "b.npy").stat().st_size > 200_000_000 - 1
    assert grown < 20_000, f"{grown} KB for a file of 200 MB"
