from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgekit.algorithms.similarities import cosines
from edgekit.core.errors import DataError
from edgekit.tasks.embeddings import Embeddings


def test_metrics_are_the_rank_correlation_and_the_mean_cosine() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(25, 8))
    mine = theirs + 0.4 * rng.normal(size=theirs.shape)
    task = Embeddings()
    rows = task.observe({"e": mine}, [None] * 25, {"e": theirs})
    pairs = np.triu_indices(25, 1)
    angles = (mine * theirs).sum(axis=1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
    assert task.metrics(rows) == {
        "spearman": pytest.approx(100 * spearmanr(cosines(mine)[pairs], cosines(theirs)[pairs]).statistic),
        "cosine": pytest.approx(100 * angles.mean()),
    }
    assert task.metrics(task.observe({"e": theirs}, [None] * 25, {"e": theirs}))["spearman"] == pytest.approx(100)


def test_turning_the_whole_space_changes_the_vectors_and_nothing_that_is_alike() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.normal(size=(20, 4))
    turned = theirs @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    task = Embeddings()
    found = task.metrics(task.observe({"e": turned}, [None] * 20, {"e": theirs}))
    assert found["spearman"] == pytest.approx(100)
    assert found["cosine"] < 90


def test_a_changed_prediction_is_another_nearest_sample() -> None:
    theirs = np.array([[1, 0.0], [1, 0.2], [0, 1], [0.2, 1]])
    mine = theirs[[0, 2, 1, 3]]
    task = Embeddings()
    assert task.predictions(task.observe({"e": theirs}, [None] * 4, {"e": theirs})).tolist() == [1, 0, 3, 2]
    assert task.predictions(task.observe({"e": mine}, [None] * 4, {"e": theirs})).tolist() == [2, 3, 0, 1]


def test_imitation_is_the_angle_to_the_teacher() -> None:
    torch = pytest.importorskip("torch")
    assert float(Embeddings().imitation({"y": torch.tensor([[3.0, 4]])}, {"y": torch.tensor([[1.0, 0]])}, 1.0)) == pytest.approx(0.4)


@pytest.mark.parametrize(("mine", "theirs"), [((2, 3, 4), (2, 3, 4)), ((2, 3), (2, 4)), ((3, 4), (3, 4))])
def test_what_is_no_embedding_is_refused(mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"an embedding model gives \[2, size\]"):
        Embeddings().observe({"e": np.zeros(mine)}, [None] * 2, {"e": np.zeros(theirs)})
