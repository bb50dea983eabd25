from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import DataError
from edgekit.tasks.causal_lm import CausalLm

LABELS = [np.array([1, 2, 0, 3]), np.array([1, 3, -100, -100])]


def scores(probabilities: dict[tuple[int, int], float]) -> np.ndarray:
    """Scores [2, 4, 4] that give the wanted next token such a probability and divide the rest evenly."""
    made = np.zeros((2, 4, 4))
    for (text, place), share in probabilities.items():
        wanted = LABELS[text][place + 1]
        made[text, place] = np.log((1 - share) / 3)
        made[text, place, wanted] = np.log(share)
    return made.astype(np.float32)


OUTPUT = {"logits": scores({(0, 0): 0.5, (0, 1): 0.25, (0, 2): 0.1, (1, 0): 0.8})}


def test_perplexity_is_of_all_predicted_tokens_and_likelihood_its_inverse() -> None:
    metrics = CausalLm().metrics(CausalLm().observe(OUTPUT, LABELS, OUTPUT))
    likelihood = (0.5 * 0.25 * 0.1 * 0.8) ** (1 / 4)
    assert metrics["likelihood"] == pytest.approx(100 * likelihood)
    assert metrics["perplexity"] == pytest.approx(1 / likelihood)
    assert metrics["accuracy"] == 75.0, "a quarter is as likely as the three others; the first of equals is chosen"


def test_a_text_is_one_row_that_can_be_drawn_alone() -> None:
    rows = CausalLm().observe(OUTPUT, LABELS, OUTPUT)
    assert rows[:, 1].tolist() == [3, 1]
    assert CausalLm().metrics(rows[1:])["likelihood"] == pytest.approx(80)
    assert CausalLm().metrics(rows[[1, 1]])["likelihood"] == pytest.approx(80)


def test_a_changed_choice_at_a_predicted_place_is_a_changed_prediction() -> None:
    other = OUTPUT["logits"].copy()
    other[1, 2:] += np.arange(4)
    same = CausalLm().observe({"logits": other}, LABELS, OUTPUT)
    other[0, 2] = other[0, 2, ::-1]
    changed = CausalLm().observe({"logits": other}, LABELS, OUTPUT)
    first = CausalLm().predictions(CausalLm().observe(OUTPUT, LABELS, OUTPUT))
    assert (CausalLm().predictions(same) == first).all(), "places that are not predicted don't count"
    assert (CausalLm().predictions(changed) == first).tolist() == [False, True]


def test_loss_is_the_same_mean_and_imitation_vanishes_for_equals() -> None:
    import torch

    tensors = {"logits": torch.from_numpy(OUTPUT["logits"])}
    perplexity = CausalLm().metrics(CausalLm().observe(OUTPUT, LABELS, OUTPUT))["perplexity"]
    assert float(CausalLm().loss(tensors, LABELS).exp()) == pytest.approx(perplexity, rel=1e-5)
    assert float(CausalLm().imitation(tensors, tensors, 2.0)) == pytest.approx(0, abs=1e-6)
    other = {"logits": tensors["logits"].flip(-1)}
    assert float(CausalLm().imitation(other, tensors, 2.0)) > 0.1


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        (OUTPUT, [None, None], "has none"),
        (OUTPUT, [3, 1], "has 3"),
        (OUTPUT, [np.array([1, 2, 0]), np.array([1, 2, 0])], "one number a token \\[4\\]"),
        (OUTPUT, [np.array([1, 9, 0, 1]), LABELS[1]], "label 9 is beyond the model's 4"),
        ({"logits": np.zeros((2, 4))}, LABELS, "a language model gives"),
    ],
)
def test_labels_and_outputs_that_do_not_fit_are_told(outputs: dict[str, np.ndarray], labels: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said) as problem:
        CausalLm().observe(outputs, labels, outputs)
    assert problem.value.hint
