"""GPTQ, AWQ and SmoothQuant on small transformers: what lands on the grid, what is folded, what stays the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.algorithms.int4 import to_grid
from edgekit.core.errors import RecipeError
from edgekit.core.modules import outputs_of
from edgekit.core.plugin import Context, Improvement, Pass
from edgekit.core.registry import create
from edgekit.passes._calibration import blocks, watch
from edgekit.passes._folding import find_folds

if TYPE_CHECKING:
    import torch

WIDTH, HIDDEN, WORDS, LENGTH = 32, 80, 40, 12


class Texts:
    """Random sentences of which some words are far more frequent."""

    name = digest = "texts"

    def __len__(self) -> int:
        return 24

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for seed in range(min(24, limit or 24)):
            yield {"ids": np.random.default_rng(seed).zipf(1.5, (1, LENGTH)).clip(0, WORDS - 1).astype(np.int64)}, [None]


TEXTS = Texts()
CONTEXT = Context(example=next(TEXTS.batches())[0], calibration=TEXTS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def transformer() -> Callable[..., torch.nn.Module]:
    """Makes a transformer of two blocks; norms stand before their sublayer, or after the sum as in BERT."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: bool) -> None:
            super().__init__()
            self.before = before
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.gate, self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH, bias=False)

        def mix(self, x: torch.Tensor) -> torch.Tensor:
            return self.o((self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x))  # type: ignore[no-any-return]

        def feed(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(nn.functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.before:
                x = x + self.mix(self.norm1(x))
                return x + self.feed(self.norm2(x))
            x = self.norm1(x + self.mix(x))
            return self.norm2(x + self.feed(x))  # type: ignore[no-any-return]

    class Model(nn.Module):
        def __init__(self, before: bool) -> None:
            super().__init__()
            self.embed = nn.Embedding(WORDS, WIDTH)
            self.layers = nn.ModuleList(Block(before) for _ in range(2))
            self.head = nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x)
            return self.head(x)  # type: ignore[no-any-return]

    def make(*, before: bool = True) -> nn.Module:
        torch.manual_seed(0)
        model = Model(before).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.data[:3] *= 6  # the outliers that transformers have
        return model

    return make


Transformer = Callable[..., "torch.nn.Module"]


def improve(module: torch.nn.Module, name: str, **options: object) -> tuple[Improvement, Any]:
    work = create(Pass, {"use": name, **options}, "passes")
    plan = json.loads(json.dumps(work.plan(module, CONTEXT)))
    return work.perform(copy.deepcopy(module), plan, CONTEXT), plan


def outputs(module: torch.nn.Module) -> np.ndarray:
    return np.concatenate([o["output"] for _, o in outputs_of(module, [inputs for inputs, _ in TEXTS.batches()])])


def linears(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy() for n, p in module.named_parameters() if p.ndim == 2 and n.startswith("layers.")}


def error(found: torch.nn.Module, module: torch.nn.Module) -> float:
    right = outputs(module)
    return float(((outputs(found) - right) ** 2).sum() / (right**2).sum())


@pytest.mark.parametrize("name", ["gptq", "awq"])
@pytest.mark.parametrize("grid", [{"group": 16}, {"group": 16, "symmetric": False}, {"group": 32}, {"group": None}], ids=str)
def test_weights_lie_on_the_grid_that_quantizers_store(name: str, grid: dict[str, Any], transformer: Transformer) -> None:
    better, plan = improve(transformer(), name, grid=grid)
    assert len(plan["layers"]) == 14
    for layer, weights in linears(better.module).items():
        np.testing.assert_array_equal(to_grid(weights, grid["group"], symmetric=grid.get("symmetric", True)).weights(), weights, layer)


def rounded(module: torch.nn.Module, symmetric: bool) -> torch.nn.Module:
    plain = copy.deepcopy(module)
    for name in linears(module):
        values = plain.get_parameter(name).data
        values.copy_(values.new_tensor(to_grid(values.numpy(), 16, symmetric=symmetric).weights()))
    return plain


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_keeps_each_layers_outputs_closer_than_plain_rounding(symmetric: bool, transformer: Transformer) -> None:
    module = transformer()
    layers = [f"layers.0.{part}" for part in ("q", "k", "v", "o", "gate", "up", "down")]
    grams: dict[str, Any] = {}
    watch(module, layers, CONTEXT, 24, lambda name, rows: grams.update({name: grams.get(name, 0) + rows.T @ rows}))
    better, _ = improve(module, "gptq", grid={"group": 16, "symmetric": symmetric})

    def errors(of: torch.nn.Module) -> dict[str, float]:
        found = {n: of.get_parameter(f"{n}.weight").detach() - module.get_parameter(f"{n}.weight").detach() for n in layers}
        return {name: float(((change @ grams[name]) * change).sum()) for name, change in found.items()}

    gained = {name: error / errors(rounded(module, symmetric))[name] for name, error in errors(better.module).items()}
    assert max(gained.values()) < 0.9
    assert np.mean(list(gained.values())) < 0.6


@pytest.mark.parametrize("symmetric", [True, False])
def test_awq_keeps_outputs_closer_than_plain_rounding(symmetric: bool, transformer: Transformer) -> None:
    module = transformer()
    better, plan = improve(module, "awq", grid={"group": 16, "symmetric": symmetric})
    assert any(row["strength"] > 0.1 for row in plan["folds"])
    assert error(better.module, module) < 0.7 * error(rounded(module, symmetric), module)


def test_weights_shared_with_an_embedding_and_excluded_layers_stay(transformer: Transformer) -> None:
    module = transformer()
    better, plan = improve(module, "gptq", exclude=["layers.0.*"])
    assert set(plan["layers"]) == {f"layers.1.{part}" for part in ("q", "k", "v", "o", "gate", "up", "down")}
    for name, value in module.state_dict().items():
        changed = not np.array_equal(value.numpy(), better.module.state_dict()[name].numpy())
        assert changed == (name.startswith("layers.1.") and value.ndim == 2)
    with pytest.raises(RecipeError, match=r"'layer\.0' matches no layer"):
        improve(module, "gptq", exclude=["layer.0"])
    assert set(better.record["output_error"]) == set(plan["layers"])
    assert max(better.record["output_error"].values()) < 0.02


def test_scales_are_traded_where_nothing_else_listens(transformer: Transformer) -> None:
    module = transformer()
    layers = [name.removesuffix(".weight") for name in linears(module)]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = {fold.source: fold.targets for fold in find_folds(module, layers, CONTEXT.example, linear=True)}
    for block in ("layers.0.", "layers.1."):
        assert found[f"{block}norm1"] == (f"{block}q", f"{block}k", f"{block}v")
        assert found[f"{block}norm2"] == (f"{block}gate", f"{block}up")
        assert (found[f"{block}v"], found[f"{block}up"]) == ((f"{block}o",), (f"{block}down",))
    assert len(found) == 8
    assert all(np.array_equal(value, module.state_dict()[name]) for name, value in before.items())


def test_a_norm_whose_output_is_also_added_trades_nothing(transformer: Transformer) -> None:
    module = transformer(before=False)
    layers = [name.removesuffix(".weight") for name in linears(module)]
    sources = {fold.source for fold in find_folds(module, layers, CONTEXT.example, linear=True)}
    assert sources == {"layers.0.v", "layers.0.up", "layers.1.v", "layers.1.up"}
    better, plan = improve(module, "smoothquant")
    assert plan == []
    assert "nothing to smooth" in better.notes[0]
    np.testing.assert_array_equal(outputs(better.module), outputs(module))


def test_smoothing_leaves_outputs_and_levels_activations(transformer: Transformer) -> None:
    module = transformer()
    better, plan = improve(module, "smoothquant")
    assert {row["source"] for row in plan} == {f"layers.{i}.norm{j}" for i in (0, 1) for j in (1, 2)}
    right = outputs(module)
    assert np.abs(outputs(better.module) - right).max() <= 1e-5 * np.abs(right).max()

    def spread(of: torch.nn.Module) -> float:
        peaks: list[np.ndarray] = []
        watch(of, ["layers.0.q"], CONTEXT, 24, lambda _, rows: peaks.append(rows.abs().amax(0).numpy()))
        largest = np.max(peaks, axis=0)
        return float(largest.max() / np.median(largest))

    assert spread(better.module) < spread(module) / 2


@pytest.mark.parametrize("name", ["awq", "smoothquant"])
def test_folded_scales_add_no_module(name: str, transformer: Transformer) -> None:
    module = transformer()
    better, _ = improve(module, name)
    assert [n for n, _ in better.module.named_modules()] == [n for n, _ in module.named_modules()]
    assert better.module.state_dict().keys() == module.state_dict().keys()


def test_awq_can_leave_the_rounding_to_gptq(transformer: Transformer) -> None:
    module = transformer()
    better, plan = improve(module, "awq", rounds=False)
    right = outputs(module)
    assert plan["layers"] == []
    assert np.abs(outputs(better.module) - right).max() <= 1e-4 * np.abs(right).max()
    assert not np.array_equal(linears(better.module)["layers.0.q.weight"], linears(module)["layers.0.q.weight"])


def test_padding_is_left_out_of_what_is_seen() -> None:
    from torch import nn

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.fc(x) * attention_mask[..., None]  # type: ignore[no-any-return]

    class Padded(Texts):
        def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
            yield {"x": np.ones((1, 5, 4), np.float32), "attention_mask": np.array([[1, 1, 0, 0, 0]])}, [None]

    seen: list[int] = []
    watch(Masked(), ["fc"], Context(example={}, calibration=Padded()), 1, lambda _, rows: seen.append(len(rows)))  # type: ignore[arg-type]
    assert seen == [2]


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
def test_calibration_samples_are_needed(name: str, transformer: Transformer) -> None:
    work = create(Pass, name, "passes")
    module = transformer()
    context = Context(example=CONTEXT.example)
    with pytest.raises(RecipeError, match="nothing to calibrate with"):
        work.perform(module, work.plan(module, context), context)


def test_blocks_are_the_repeated_parts_in_order() -> None:
    names = ["stem", "layers.0.q", "layers.0.mlp.up", "layers.1.q", "head"]
    assert blocks(names) == [["stem"], ["layers.0.q", "layers.0.mlp.up"], ["layers.1.q"], ["head"]]


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_layers_that_never_run_read_only_zeros_or_have_computed_weights_are_no_trouble(name: str) -> None:
    import torch
    from torch import nn

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(WORDS, WIDTH)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
            self.plain, self.idle, self.numb = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.plain(self.normed(self.embed(ids)).relu())
            return x + self.numb(torch.zeros_like(x))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    module = Odd().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    work = create(Pass, {"use": name}, "passes")
    after = work.perform(module, work.plan(module, CONTEXT), CONTEXT).module.state_dict()
    assert not torch.equal(after["plain.weight"], before["plain.weight"])
    for key, value in after.items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, before[key]) or key.split(".")[0] in ("plain", "numb", "embed"), key
