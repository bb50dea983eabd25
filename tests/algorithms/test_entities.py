"""Entities against seqeval's."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.algorithms.entities import entities

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-LOC"]


def test_entities_are_type_and_ends() -> None:
    assert entities(["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-PER"]) == [("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4), ("PER", 5, 5)]
    assert entities([]) == entities(["O", "O"]) == []


@pytest.mark.filterwarnings("ignore")
def test_any_sequence_is_read_as_seqeval_reads_it() -> None:
    labelling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    rng = np.random.default_rng(0)
    for _ in range(300):
        tags = [TAGS[i] for i in rng.integers(0, len(TAGS), rng.integers(1, 9))]
        assert entities(tags) == labelling.get_entities(tags)
