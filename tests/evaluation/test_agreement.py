"""Agreement is that of the definitions, sample by sample and output by output."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from edgekit.core.errors import DataError
from edgekit.core.plugin import Task
from edgekit.core.progress import Silent
from edgekit.core.registry import create
from edgekit.evaluation import rows
from edgekit.evaluation.accuracy import observe
from edgekit.evaluation.agreement import agree


@pytest.fixture
def kept(tmp_path, arrays, numpy_session):
    """Observe models that answer with given tables, by output name; returns their folders."""

    def keep(*models):
        folders = []
        for number, tables in enumerate(models):
            count = len(next(iter(tables.values())))
            data = arrays(np.arange(count, dtype=np.float32)[:, None])
            session = numpy_session(lambda x, t=tables: {k: v[x[:, 0].astype(int)] for k, v in t.items()})
            out = tmp_path / str(number)
            observe(session, data, create(Task, "generic", "task"), out, original=folders[0] if folders else None, progress=Silent())
            folders.append(out)
        return folders

    return keep


def test_cosine_error_and_divergence_are_those_of_the_definitions(kept, monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 6))
    b = a + 0.1 * rng.normal(size=(50, 6))
    monkeypatch.setattr(rows.side_by_side, "__kwdefaults__", {"at_once": 40})
    found = agree(*kept({"logits": a}, {"logits": b}), classifier=True)
    cosines = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found.samples == 50
    assert found.cosine == pytest.approx(np.mean(cosines))
    assert found.max_error == pytest.approx(np.max(np.abs(a - b)))
    assert found.kl == pytest.approx(np.mean(stats.entropy(special.softmax(a, axis=1), special.softmax(b, axis=1), axis=1)))


def test_probabilities_are_not_taken_for_logits(kept):
    rng = np.random.default_rng(0)
    p = special.softmax(rng.normal(size=(30, 5)) * 3, axis=1)
    q = np.round(p * 256) / 256
    found = agree(*kept({"p": p}, {"p": q}), classifier=True)
    bounded = np.maximum(q, 1e-7)
    assert found.kl == pytest.approx(np.mean(stats.entropy(p, bounded / bounded.sum(axis=1, keepdims=True), axis=1)), abs=1e-9)


def test_every_output_counts_the_same(kept):
    small, large = np.ones((4, 2)), np.ones((4, 300, 3))
    found = agree(*kept({"a": small, "b": large}, {"a": small * [[1, -1]], "b": large}), classifier=False)
    assert found.cosine == pytest.approx(0.5)
    assert found.max_error == 2
    assert found.kl is None


def test_zeros_agree_with_zeros_only(kept):
    found = agree(*kept({"a": np.array([[0.0, 0], [0, 0]])}, {"a": np.array([[0.0, 0], [0, 1]])}), classifier=False)
    assert found.cosine == pytest.approx(0.5)


def test_integers_do_not_wrap_around(kept):
    found = agree(*kept({"a": np.array([[0, 1]], np.uint8)}, {"a": np.array([[1, 0]], np.uint8)}), classifier=False)
    assert found.max_error == 1


def test_models_with_other_outputs_are_refused(kept, tmp_path, arrays, numpy_session):
    first = kept({"a": np.ones((2, 2))})[0]
    data = arrays(np.zeros((2, 1), np.float32))
    generic = create(Task, "generic", "task")
    observe(numpy_session(lambda x: {"b": x}), data, generic, tmp_path / "other", original=None, progress=Silent())
    with pytest.raises(DataError, match="different outputs"):
        agree(first, tmp_path / "other", classifier=False)
