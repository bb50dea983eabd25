from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import Reference
from edgekit.core.errors import DataError
from edgekit.tasks.speech_recognition import SpeechRecognition

CHARACTERS = ("", "", "a", "b", "c", " ")  # blank, unknown, ...


def path_of(text: str, length: int) -> np.ndarray:
    """Scores [T, tokens] of a path that writes a text: every character twice, a blank between equal ones."""
    tokens: list[int] = []
    for place, character in enumerate(text):
        tokens += [0] if place and text[place - 1] == character else []
        tokens += [CHARACTERS.index(character)] * 2
    return 8.0 * np.eye(len(CHARACTERS))[tokens + [0] * (length - len(tokens))]


def judged(pairs: list[tuple[str, tuple[str, ...]]]) -> dict[str, float]:
    task = SpeechRecognition(characters=CHARACTERS)
    outputs = {"logits": np.stack([path_of(written, 40) for written, _ in pairs])}
    return task.metrics(task.observe(outputs, [Reference(right) for _, right in pairs], {}))


def test_error_rates_are_jiwers() -> None:
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(0)
    texts = [[" ".join("".join(rng.choice(list("abc"), 2)) for _ in range(rng.integers(1, 5))) for _ in range(2)] for _ in range(30)]
    found = judged([(written, (right,)) for written, right in texts])
    written, right = ([pair[side] for pair in texts] for side in (0, 1))
    assert found["wer"] == pytest.approx(100 * jiwer.wer(right, written))
    assert found["cer"] == pytest.approx(100 * jiwer.cer(right, written))
    assert found["word_accuracy"] == pytest.approx(max(0, 100 - found["wer"]))


def test_equal_letters_need_a_blank_case_does_not_matter_and_the_nearest_transcript_counts() -> None:
    assert judged([("aab ca", ("AAB  CA",))]) == {"word_accuracy": 100, "wer": 0, "cer": 0}
    assert judged([("ab c", ("b c a", "ab c c"))])["wer"] == pytest.approx(100 / 3)


def test_training_asks_for_a_path_that_writes_the_transcript() -> None:
    torch = pytest.importorskip("torch")
    task = SpeechRecognition(characters=CHARACTERS)
    outputs = {"logits": torch.from_numpy(path_of("ab ca", 20)[None])}
    right, wrong = (float(task.loss(outputs, [Reference((text,))])) for text in ("AB CA", "AB CB"))
    assert right < 0.3 < wrong
    with pytest.raises(DataError, match="can't write 'd'"):
        task.loss(outputs, [Reference(("abd",))])


@pytest.mark.parametrize(
    ("output", "label", "message"),
    [
        (np.zeros((1, 4)), Reference(("a",)), r"is \[1, 4\], a CTC network gives \[1, time, 6\]"),
        (np.zeros((1, 4, 5)), Reference(("a",)), r"is \[1, 4, 5\]"),
        (np.zeros((1, 4, 6)), None, "this recording has none"),
        (np.zeros((1, 4, 6)), 3, "this recording has 3"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(output: np.ndarray, label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SpeechRecognition(characters=CHARACTERS).observe({"y": output}, [label], {})
