"""Memory is the process's, size is the files'."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from edgekit.core.artifacts import Artifact
from edgekit.evaluation.memory import peak
from edgekit.evaluation.size import size_of


def test_memory_is_given_in_megabytes(numpy_session):
    session = numpy_session(lambda x: {"y": x})
    assert (peak(session).peak_mb, peak(session).runtime_mb, peak(session).basis) == (123.0, None, "measured")
    session.circumstances["runtime_memory"] = 50_000_000
    assert peak(session, basis="emulated").runtime_mb == 50.0


def test_memory_of_this_process_is_no_models(numpy_session):
    session = numpy_session(lambda x: {"y": x})
    session.circumstances["host"] = "in_process"
    assert (peak(session).peak_mb, peak(session).basis) == (None, "not measured")


def test_size_counts_all_files_as_one_stream(tmp_path):
    graph, weights = b"graph" * 1000, np.random.default_rng(0).bytes(100_000)
    (tmp_path / "model.xml").write_bytes(graph)
    (tmp_path / "model.bin").write_bytes(weights)
    artifact = Artifact.describe(tmp_path, format="openvino", file="model.xml", precision="fp32", inputs=(), outputs=())
    found = size_of(artifact)
    assert found.raw == len(graph) + len(weights)
    assert found.zstd == pytest.approx(len(zstandard.compress(weights + graph, 3)), rel=0.001)
