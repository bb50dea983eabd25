"""Programs run graphs in turn, whatever runs a graph: here, plain functions whose arithmetic is easy to follow."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.runner import RunnerError, Tensor, load
from edgekit.runner.programs import program_class, program_names
from edgekit.runner.sampling import Sampler

VOCABULARY = 10


class Graph:
    """A component made of a function."""

    def __init__(self, inputs: list[Tensor], outputs: list[Tensor], function) -> None:  # type: ignore[no-untyped-def]
        self.inputs, self.outputs, self.function = tuple(inputs), tuple(outputs), function
        self.calls: list[dict[str, np.ndarray]] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append({name: array.copy() for name, array in inputs.items()})
        return self.function(inputs)


def summing(window: int | str = "sequence", places: int | str = "places") -> dict[str, Graph]:
    """A language model whose next token is the sum of all before it, modulo ten; its cache holds the tokens."""

    def scores(totals: np.ndarray) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[totals % VOCABULARY]

    def prefill(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tokens = given["input_ids"]
        return {"logits": scores(tokens.cumsum(axis=1)), "new_key_0": tokens[:, :, None, None].astype(np.float32)}

    def decode(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        before = given["key_0"][:, : int(given["position"][0])].sum().astype(np.int64)
        own = given["input_ids"]
        return {"logits": scores(before + own), "new_key_0": own[:, :, None, None].astype(np.float32)}

    logits, row = Tensor("logits", "float32", (1, "sequence", VOCABULARY)), Tensor("new_key_0", "float32", (1, "sequence", 1, 1))
    ids, cache = Tensor("input_ids", "int64", (1, window)), Tensor("key_0", "float32", (1, places, 1, 1))
    step = [Tensor("input_ids", "int64", (1, 1)), Tensor("position", "int64", (1,)), cache]
    return {"prefill": Graph([ids], [logits, row], prefill), "decode": Graph(step, [logits, row], decode)}


def decoder(parts: dict[str, Graph], **settings: object):  # type: ignore[no-untyped-def]
    return program_class("decoder")(parts, {"read_at_once": 3, "new_tokens": 4, "limit": 200, "stop": [], **settings})


def text(*tokens: int, padding: int = 0) -> dict[str, np.ndarray]:
    ids = np.array([[*tokens, *[7] * padding]])
    return {"input_ids": ids, "attention_mask": np.array([[1] * len(tokens) + [0] * padding])}


@pytest.mark.parametrize(("window", "places"), [("sequence", "places"), (3, 64), (8, 16)])
def test_a_text_is_scored_by_both_graphs_and_padding_scores_zero(window: int | str, places: int | str) -> None:
    parts = summing(window, places)
    logits = decoder(parts).run(text(1, 2, 3, 4, 5, padding=2))["logits"]
    assert logits.shape == (1, 7, VOCABULARY)
    assert logits[0, :5].argmax(axis=1).tolist() == [1, 3, 6, 0, 5]
    assert not logits[0, 5:].any()
    assert [len(part.calls) for part in parts.values()] == [1, 2], "three tokens at once, two one by one"


def test_greedy_text_is_that_of_the_model_and_ends_at_a_stop() -> None:
    written = decoder(summing()).generate(text(1, 1), {"new_tokens": 6})
    assert written["tokens"].tolist() == [[2, 4, 8, 6, 2, 4]]
    assert (np.diff(written["nanoseconds"]) > 0).all()
    stopped = decoder(summing(), stop=[8]).generate(text(1, 1), {"new_tokens": 6})
    assert stopped["tokens"].tolist() == [[2, 4, 8]]


def test_a_cache_grows_by_blocks_and_keeps_what_it_holds() -> None:
    parts = summing()
    written = decoder(parts).generate(text(1, 1), {"new_tokens": 150})["tokens"][0]
    assert written.tolist() == ([2, 4, 8, 6] * 38)[:150]
    assert sorted({call["key_0"].shape[1] for call in parts["decode"].calls}) == [64, 128, 192]


def test_more_tokens_than_the_model_holds_are_refused_before_work() -> None:
    parts = summing(places=16)
    with pytest.raises(RunnerError, match="10 tokens and 8 new ones are more than the 16"):
        decoder(parts).generate(text(*range(10)), {"new_tokens": 8})
    assert not parts["prefill"].calls
    assert decoder(parts).generate(text(*range(10)), {"new_tokens": 7})["tokens"].shape == (1, 7)


def test_padding_in_front_and_empty_texts_are_refused() -> None:
    front = {"input_ids": np.array([[7, 1, 2]]), "attention_mask": np.array([[0, 1, 1]])}
    for given in (front, text(padding=2)):
        with pytest.raises(RunnerError, match="padding behind it only"):
            decoder(summing()).run(given)


def test_what_is_timed_writes_behind_the_first_tokens() -> None:
    parts = summing()
    decoder(parts, limit=5).timed(text(*range(9)))
    assert parts["prefill"].calls[0]["input_ids"].tolist() == [[0, 1, 2]]
    assert len(parts["decode"].calls) == 1, "two tokens fit behind three in a model that holds five"


def test_probabilities_are_those_of_transformers() -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    for options in ({"temperature": 0.7}, {"temperature": 1.3, "top_k": 5}, {"temperature": 1.0, "top_k": 20, "top_p": 0.6}):
        warped = TemperatureLogitsWarper(options["temperature"])(None, torch.from_numpy(scores)[None])
        warped = TopKLogitsWarper(int(options["top_k"]))(None, warped) if "top_k" in options else warped
        warped = TopPLogitsWarper(options["top_p"])(None, warped) if "top_p" in options else warped
        np.testing.assert_allclose(Sampler(options).probabilities(scores), warped.softmax(-1)[0].numpy(), atol=1e-6)


def test_sampling_follows_its_seed_and_its_probabilities() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.2]))
    drawn = [Sampler({"temperature": 1.0, "seed": seed}) for seed in (3, 3, 4)]
    first, again, other = ([one.choose(scores) for _ in range(2000)] for one in drawn)
    assert first == again != other
    np.testing.assert_allclose(np.bincount(first) / 2000, [0.5, 0.3, 0.2], atol=0.04)
    with pytest.raises(RunnerError, match="unknown option 'heat'"):
        Sampler({"heat": 1})


def test_an_assembly_loads_graphs_below_its_folder_only(tiny: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    tiny.write_onnx(tmp_path / "inside" / "a.onnx")
    tiny.write_onnx(tmp_path.parent / "outside.onnx")
    content = {"assembly": 1, "program": "decoder", "settings": {}, "components": {"prefill": "../outside.onnx"}}
    for wrong, said in (
        (content, "does not lie beside it"),
        ({**content, "components": {"prefill": "inside/b.onnx"}}, "does not lie beside it"),
        ({**content, "assembly": 9}, "version 9"),
        ({**content, "components": {"prefill": "inside/a.onnx"}, "program": "dance"}, "unknown program 'dance'"),
        ({"assembly": 1}, "does not load"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(wrong))
        with pytest.raises(RunnerError, match=said) as caught:
            load(tmp_path / "model.json", "onnxruntime")
        assert caught.value.kind == "model"


def test_single_graphs_do_not_generate(tiny: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="does not generate"):
        load(tiny.write_onnx(tmp_path / "a.onnx"), "onnxruntime").generate(tiny.batch(1), {})


def test_programs_are_found_by_their_files() -> None:
    assert "decoder" in program_names()
    for name in program_names():
        assert program_class(name).__doc__
