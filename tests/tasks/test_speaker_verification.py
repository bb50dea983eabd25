from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.tasks.speaker_verification import SpeakerVerification


def test_metrics_are_those_of_all_pairs() -> None:
    embeddings = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.2, 1], [0.7, 0.7]])
    task = SpeakerVerification()
    rows = task.observe({"y": embeddings}, [0, 0, 1, 1, 0], {})
    found = task.metrics(rows)
    assert found["accuracy_at_EER"] == 100 - found["EER"]
    assert 0 < found["EER"] < 50
    easy = task.observe({"y": embeddings[:4]}, [0, 0, 1, 1], {})
    assert task.metrics(easy) == {"accuracy_at_EER": 100, "EER": 0, "minDCF": 0}
    assert task.predictions(easy).tolist() == [0, 0, 1, 1]


def test_a_recording_drawn_twice_is_no_trial() -> None:
    rng = np.random.default_rng(0)
    task = SpeakerVerification()
    rows = task.observe({"y": rng.normal(size=(20, 4))}, rng.integers(0, 3, 20).tolist(), {})
    assert task.metrics(np.repeat(rows, 3, axis=0)) == pytest.approx(task.metrics(rows))


def test_training_pulls_one_speakers_recordings_together() -> None:
    torch = pytest.importorskip("torch")
    task = SpeakerVerification()
    apart = torch.eye(2).repeat_interleave(3, dim=0)
    mixed = torch.eye(2).repeat(3, 1)
    labels = [0, 0, 0, 1, 1, 1]
    assert float(task.loss({"y": apart}, labels)) < float(task.loss({"y": mixed}, labels)) - 5
    vectors = torch.tensor([[1.0, 0.2], [0.8, 0.1], [0.1, 1.0]], dtype=torch.float64)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = unit @ unit.T / 0.1
    expected = np.mean([float(torch.logsumexp(scores[i, [j for j in range(3) if j != i]], 0) - scores[i, 1 - i]) for i in (0, 1)])
    assert float(task.loss({"y": vectors}, [4, 4, 7])) == pytest.approx(expected)
    assert float(task.loss({"y": vectors}, [4, 5, 6])) == 0


def test_imitation_is_the_angle_to_the_teacher() -> None:
    torch = pytest.importorskip("torch")
    task = SpeakerVerification()
    assert float(task.imitation({"y": torch.tensor([[3.0, 4]])}, {"y": torch.tensor([[1.0, 0]])}, 1.0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (np.zeros((2, 3, 4)), [0, 1], r"is \[2, 3, 4\], an embedding network gives \[2, size\]"),
        (np.zeros((2, 3)), [0, None], "has no labels"),
        (np.full((2, 3), np.nan), [0, 1], "NaN"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(output: np.ndarray, labels: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SpeakerVerification().observe({"y": output}, labels, {})
