"""What may go together, proved against networks that are sliced or blinded by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from edgekit.passes.prune.groups import Group, find_groups, joined
from edgekit.passes.prune.surgery import Cut, perform_cut
from tests.passes.prune.networks import Residual, Separable, Shuffled, Transformer, seeded

PICTURE = {"image": np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)}


def found(kind: type) -> tuple[dict[str, Group], dict[str, str]]:
    groups, refused = find_groups(seeded(kind), PICTURE)
    return {group.name: group for group in groups}, refused


def sides(group: Group) -> set[tuple[str, str]]:
    return {(member.layer, member.side) for member in group.members}


def test_inner_channels_of_residual_blocks_are_free() -> None:
    groups, refused = found(Residual)
    assert list(groups) == ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.1.conv1", "layer2.2.conv1", "layer2.2.conv2"]
    assert sides(groups["layer1.0.conv1"]) == {("layer1.0.conv1", "out"), ("layer1.0.bn1", "out"), ("layer1.0.conv2", "in")}
    assert "conv1" in refused  # padding of channels between the stages


def test_only_residual_blocks_of_equal_shape_may_go() -> None:
    groups, _ = found(Residual)
    assert {g.name: g.block for g in groups.values() if g.name.endswith("conv1")} == {
        "layer1.0.conv1": "layer1.0",
        "layer1.1.conv1": "layer1.1",
        "layer2.0.conv1": None,
        "layer2.1.conv1": "layer2.1",
        "layer2.2.conv1": None,
    }


def test_equal_blocks_are_of_one_kind() -> None:
    groups, _ = found(Residual)
    assert groups["layer1.0.conv1"].kind == groups["layer1.1.conv1"].kind
    assert groups["layer1.0.conv1"].kind != groups["layer2.1.conv1"].kind


def test_depthwise_and_flattened_channels_follow() -> None:
    groups, refused = found(Separable)
    assert sides(groups["up"]) == {("up", "out"), ("act", "out"), ("deep", "out"), ("norm", "out"), ("fc", "in")}
    fc = next(member for member in groups["up"].members if member.layer == "fc")
    assert fc.indices[3] == tuple(range(3 * 16, 4 * 16))
    assert refused == {"fc": "no layer reads them"}


def test_what_the_graph_does_not_follow_is_left_alone() -> None:
    groups, refused = found(Shuffled)
    assert groups == {}
    assert set(refused) == {"stem", "fc"}


def test_attention_goes_by_heads_and_its_attributes_follow() -> None:
    groups, _ = found(Transformer)
    heads = next(group for group in groups.values() if group.unit == "head")
    assert heads.size == 4
    assert sides(heads) == {("attention.query", "out"), ("attention.key", "out"), ("attention.value", "out"), ("output", "in")}
    cut = heads.cut([1])
    assert cut.attributes == {"attention": {"num_attention_heads": 3, "all_head_size": 6}}
    assert cut.channels["attention.key"] == {"out": [2, 3]}


@pytest.mark.parametrize("kind", [Residual, Separable, Transformer])
def test_a_cut_network_computes_what_a_blind_one_computes(kind: type) -> None:
    import torch

    module = seeded(kind)
    x = torch.randn(5, 1, 8, 8)
    for group in find_groups(module, PICTURE)[0]:
        if any(isinstance(module.get_submodule(member.layer), torch.nn.LayerNorm) for member in group.members):
            continue
        units = list(range(0, group.size, 2))
        small = perform_cut(copy.deepcopy(module), group.cut(units))
        blind = copy.deepcopy(module)
        with torch.no_grad():
            for member in group.sides("in"):
                for unit in units:
                    blind.get_submodule(member.layer).weight[:, list(member.indices[unit])] = 0
            torch.testing.assert_close(small(x), blind(x), atol=1e-5, rtol=1e-4)
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())


def test_sliced_weights_are_the_ones_that_numpy_slices() -> None:
    import torch

    module = seeded(Residual)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    small = perform_cut(module, Cut({"layer1.0.conv1": {"out": [1, 5]}, "layer1.0.bn1": {"out": [1, 5]}, "layer1.0.conv2": {"in": [1, 5]}}))
    left = [0, 2, 3, 4, 6, 7]
    for name, wanted in (
        ("layer1.0.conv1.weight", before["layer1.0.conv1.weight"][left]),
        ("layer1.0.conv2.weight", before["layer1.0.conv2.weight"][:, left]),
        ("layer1.0.bn1.running_var", before["layer1.0.bn1.running_var"][left]),
        ("layer1.0.bn1.bias", before["layer1.0.bn1.bias"][left]),
    ):
        assert torch.equal(small.state_dict()[name], wanted)
    assert (small.layer1[0].conv1.out_channels, small.layer1[0].bn1.num_features, small.layer1[0].conv2.in_channels) == (6, 6, 6)


def test_a_block_without_its_group_is_the_identity() -> None:
    import torch

    module = seeded(Residual)
    group = next(g for g in find_groups(module, PICTURE)[0] if g.name == "layer2.1.conv1")
    small = perform_cut(copy.deepcopy(module), group.cut(range(group.size)))
    x = torch.randn(2, 1, 8, 8)
    expected = module.fc(module.layer2[2](module.layer2[0](module.layer1(torch.relu(module.conv1(x))))).mean((2, 3)))
    assert torch.equal(small(x), expected)


def test_joined_cuts_merge_channels_and_drop_what_lies_in_a_block() -> None:
    cut = joined(
        [
            Cut({"a": {"out": [1]}, "b": {"in": [3]}}),
            Cut({"b": {"in": [0], "out": [2]}}),
            Cut({"block.conv": {"out": [1]}}),
            Cut({}, ["block"]),
        ]
    )
    assert cut == Cut({"a": {"out": [1]}, "b": {"in": [0, 3], "out": [2]}}, ["block"], {})


def test_a_layer_used_twice_under_two_names_stays() -> None:
    import torch

    module = seeded(Transformer)
    module.narrow.weight = torch.nn.Parameter(module.narrow.weight.detach())
    module.extra = torch.nn.Linear(32, 8)
    module.extra.weight = module.narrow.weight
    _, refused = find_groups(module, PICTURE)
    assert refused["wide"] == "its weights are used by another layer too"
