from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import SourceError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Source
from edgekit.core.registry import create

torch = pytest.importorskip("torch")
IDS = np.array([[5, 6, 7, 0], [8, 9, 0, 0]])
MASK = (IDS > 0).astype(np.int64)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head or pooler, as sentence encoders are."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config, add_pooling_layer=True).save_pretrained(folder)
    return folder


def write_modules(folder: Path, modes: dict[str, bool], *others: str) -> None:
    names = ["Transformer", "Pooling", *others]
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [{"idx": i, "path": paths.get(n, f"{i}_{n}"), "type": f"sentence_transformers.models.{n}"} for i, n in enumerate(names)]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 8, **modes}), encoding="utf-8")


def fetched(folder: Path, out: Path, auto_class: str = "AutoModel", **options: Any) -> Checkpoint:
    out.mkdir()
    source = create(Source, {"use": "transformers", "path": str(folder), **options}, "model")
    return source.fetch(out, Context(example={}, auto_class=auto_class))


def run(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = load_module(checkpoint)(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK))
    return {name: value.numpy() for name, value in found.items()}


def tokens(bert: Path) -> np.ndarray:
    from transformers import BertModel

    with torch.inference_mode():
        model = BertModel.from_pretrained(bert).eval()
        return np.asarray(model(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).last_hidden_state.numpy())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mean_tokens", lambda t: np.stack([t[0, :3].mean(axis=0), t[1, :2].mean(axis=0)])),
        ("cls_token", lambda t: t[:, 0]),
        ("max_tokens", lambda t: np.stack([t[0, :3].max(axis=0), t[1, :2].max(axis=0)])),
    ],
)
def test_tokens_are_pooled_as_the_folder_says(bert: Path, tmp_path: Path, mode: str, expected: Any) -> None:
    write_modules(bert, {f"pooling_mode_{mode}": True, "pooling_mode_mean_sqrt_len_tokens": False})
    found = run(fetched(bert, tmp_path / "out"))
    assert list(found) == ["sentence_embedding"]
    np.testing.assert_allclose(found["sentence_embedding"], expected(tokens(bert)), atol=1e-6)


def test_a_normalize_module_makes_vectors_of_length_one(bert: Path, tmp_path: Path) -> None:
    write_modules(bert, {"pooling_mode_mean_tokens": True}, "Normalize")
    checkpoint = fetched(bert, tmp_path / "out")
    np.testing.assert_allclose(np.linalg.norm(run(checkpoint)["sentence_embedding"], axis=1), 1, atol=1e-6)
    assert any("pools tokens by mean, to length 1" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("modes", "others", "message"),
    [
        ({"pooling_mode_mean_tokens": True}, ["Dense"], "builds no module 'Dense'"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, [], "pools by pooling_mode_mean_sqrt_len_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, [], "pools by pooling_mode_mean_tokens, pooling_mode_cls"),
    ],
)
def test_what_is_not_built_is_refused(bert: Path, tmp_path: Path, modes: dict[str, bool], others: list[str], message: str) -> None:
    write_modules(bert, modes, *others)
    with pytest.raises(SourceError, match=message):
        fetched(bert, tmp_path / "out")


def test_a_new_head_is_put_on_a_body_that_has_none(bert: Path, tmp_path: Path) -> None:
    write_modules(bert, {"pooling_mode_mean_tokens": True})
    with pytest.raises(SourceError, match="classifier"):
        fetched(bert, tmp_path / "refused", "AutoModelForSequenceClassification")
    first, second = (fetched(bert, tmp_path / name, "AutoModelForSequenceClassification", classes=5) for name in "ab")
    assert run(first)["logits"].shape == (2, 5)
    np.testing.assert_array_equal(run(first)["logits"], run(second)["logits"])
    assert "has a new head for 5 classes, untrained" in first.notes
