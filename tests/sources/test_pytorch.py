from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.artifacts import Checkpoint
from edgekit.core.errors import RecipeError, SourceError
from edgekit.core.factories import find_function
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Source
from edgekit.core.registry import create

CONTEXT = Context(example={})


def fetch(path: Path, arch: str, out: Path, **options: object) -> Checkpoint:
    out.mkdir(exist_ok=True)
    return create(Source, {"use": "pytorch", "path": str(path), "arch": arch, **options}, "model").fetch(out, CONTEXT)


@pytest.fixture
def arch(arch_file: Path) -> str:
    return f"{arch_file}:tiny"


def test_checkpoint_reloads_with_the_same_outputs(tiny_weights: Path, arch: str, tmp_path: Path) -> None:
    checkpoint = fetch(tiny_weights, arch, tmp_path / "out")
    module = find_function(arch)()
    module.load_state_dict(torch.load(tiny_weights, weights_only=True))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32))
    again = load_module(Checkpoint.load(tmp_path / "out"))
    assert torch.equal(again(x), module.eval()(x))
    assert checkpoint == Checkpoint.load(tmp_path / "out")


def test_another_architecture_makes_another_checkpoint_of_the_same_weights(tiny_weights: Path, arch_file: Path, tmp_path: Path) -> None:
    """What is stored of one must not be taken for the other's: exports are found by the checkpoint's digest."""
    arch = f"{arch_file}:tiny"
    before = fetch(tiny_weights, arch, tmp_path / "a")
    assert fetch(tiny_weights, arch, tmp_path / "b").digest == before.digest
    arch_file.write_text(arch_file.read_text().replace("relu", "sigmoid") + "\n# changed")
    assert fetch(tiny_weights, arch, tmp_path / "c").digest != before.digest


def test_weights_that_a_file_holds_under_one_of_two_names_are_taken(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    (tmp_path / "tied.py").write_text(
        "import torch\n\nclass Tied(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.embed, self.head = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5, bias=False)\n"
        "        self.head.weight = self.embed.weight\n\n    def forward(self, x):\n        return self.head(self.embed(x))\n"
    )
    arch = f"{tmp_path / 'tied.py'}:Tied"
    module = find_function(arch)()
    save_model(module, str(tmp_path / "tied.safetensors"))
    again = load_module(fetch(tmp_path / "tied.safetensors", arch, tmp_path / "out"))
    assert torch.equal(again.embed.weight, module.embed.weight)
    assert torch.equal(again.head.weight, module.embed.weight)


def test_nothing_in_the_checkpoint_folder_is_a_pickle(tiny_weights: Path, arch: str, tmp_path: Path) -> None:
    fetch(tiny_weights, arch, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"checkpoint.json", "model.safetensors"}


def test_nesting_and_prefix_are_handled_and_reported(tiny_weights: Path, arch: str, tmp_path: Path) -> None:
    state = torch.load(tiny_weights, weights_only=True)
    torch.save({"state_dict": {f"module.model.{k}": v for k, v in state.items()}, "best_prec1": 0.9}, tmp_path / "nested.pth")
    plain = fetch(tiny_weights, arch, tmp_path / "a")
    nested = fetch(tmp_path / "nested.pth", arch, tmp_path / "b")
    assert nested.digest == plain.digest
    assert nested.notes == ("took the weights from 'state_dict'", "removed the prefix 'module.model.' from all keys")


def test_safetensors_and_half_precision(tiny_weights: Path, arch: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {k: v.half() for k, v in torch.load(tiny_weights, weights_only=True).items()}
    save_file(state, tmp_path / "half.safetensors")
    checkpoint = fetch(tmp_path / "half.safetensors", arch, tmp_path / "out")
    assert checkpoint.notes == ("weights stored as float16 were widened to float32",)
    assert load_module(checkpoint).fc.weight.dtype == torch.float32


def test_missing_batch_counters_of_old_checkpoints_are_fine(tmp_path: Path) -> None:
    (tmp_path / "bn.py").write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))\n")
    state = find_function(f"{tmp_path / 'bn.py'}:net")().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pth")
    assert fetch(tmp_path / "old.pth", f"{tmp_path / 'bn.py'}:net", tmp_path / "out").kind == "module"


class Evil:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]


def test_pickled_code_is_refused_and_not_run(arch: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(SourceError, match="Python objects"):
        fetch(tmp_path / "evil.pth", arch, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def changed(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "missing":
        del state["fc.bias"]
    elif how == "unknown":
        state["fc2.bias"] = torch.zeros(3)
    elif how == "shape":
        state["fc.bias"] = torch.zeros(4)
    elif how == "nan":
        state["conv1.weight"][0, 0, 0, 0] = float("nan")
    return state


@pytest.mark.parametrize(
    ("how", "words"),
    [("missing", "'fc.bias'"), ("unknown", "'fc2.bias'"), ("shape", r"\[4\].*\[3\]"), ("nan", "conv1.weight holds NaN")],
)
def test_weights_that_do_not_fit_are_named(tiny_weights: Path, arch: str, tmp_path: Path, how: str, words: str) -> None:
    torch.save(changed(torch.load(tiny_weights, weights_only=True), how), tmp_path / "bad.pth")
    with pytest.raises(SourceError, match=words):
        fetch(tmp_path / "bad.pth", arch, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["truncated", "random", "empty", "text"])
def test_damaged_files_are_one_line(tiny_weights: Path, arch: str, tmp_path: Path, suffix: str, content: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"bad{suffix}"
    if suffix == ".pth":
        whole = tiny_weights.read_bytes()
    else:
        save_file(torch.load(tiny_weights, weights_only=True), path)
        whole = path.read_bytes()
    rng = np.random.default_rng(0)
    contents = {"truncated": whole[: len(whole) // 2], "random": rng.bytes(4096), "empty": b"", "text": b"hello world\n" * 50}
    path.write_bytes(contents[content])
    with pytest.raises(SourceError) as caught:
        fetch(path, arch, tmp_path / "out")
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [("tinny", "did you mean 'tiny'"), ("no_module", "returned list"), ("raises", "no weights today"), ("constant", "int, not a function")],
)
def test_a_wrong_factory_is_named(tiny_weights: Path, arch_file: Path, tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(tiny_weights, f"{arch_file}:{name}", tmp_path / "out")
    assert words in str(caught.value)


def test_wrong_arguments_and_files(tiny_weights: Path, arch: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unexpected keyword"):
        fetch(tiny_weights, arch, tmp_path / "out", arguments={"wide": 3})
    with pytest.raises(SourceError, match=r"gone\.py"):
        fetch(tiny_weights, f"{tmp_path / 'gone.py'}:tiny", tmp_path / "out")
    with pytest.raises(SourceError, match="names no function"):
        fetch(tiny_weights, "no_colon", tmp_path / "out")
    with pytest.raises(RecipeError, match="argument"):
        fetch(tiny_weights, arch, tmp_path / "out", argumnts={})
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(SourceError, match="nothing_of_that_name"):
        fetch(tiny_weights, f"{tmp_path / 'broken.py'}:tiny", tmp_path / "out")
