from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from edgekit.core import openvino_ir
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import QuantizationError
from edgekit.core.plugin import Context, Quantizer
from edgekit.core.quantization import Int8Scheme
from edgekit.core.registry import create

X86 = Int8Scheme(activations="uint8", symmetric=False, reduce_range=False)
OLD_X86 = Int8Scheme(activations="uint8", symmetric=False, reduce_range=True)
"""Exact on every x86; the other saturates where there is no VNNI."""
SYMMETRIC = Int8Scheme(activations="uint8", symmetric=True, reduce_range=False)
TENSORRT = Int8Scheme(activations="int8", symmetric=True, reduce_range=False)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 3, 8, 8)).astype(np.float32)


class Samples:
    """Arrays in memory, one at a time."""

    name = digest = "samples"

    def __init__(self, arrays: np.ndarray, name: str = "image") -> None:
        self.arrays, self.input = arrays, name

    def __len__(self) -> int:
        return len(self.arrays)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[dict[str, np.ndarray], list[Any]]]:
        for array in self.arrays[: limit or len(self.arrays)]:
            yield {self.input: array[None]}, [0]


def weight(*shape: int) -> Any:
    return ops.constant((np.random.default_rng(sum(shape)).normal(size=shape) * 0.3).astype(np.float32))


def saved(result: Any, inputs: list[Any], folder: Path) -> Artifact:
    model = openvino.Model([result], inputs, "model")
    result.output(0).get_tensor().set_names({"output"})
    folder.mkdir()
    openvino_ir.save(model, folder)
    return openvino_ir.describe(folder, model, "fp32", {"origin": "by hand"})


@pytest.fixture
def cnn(tmp_path: Path) -> Artifact:
    """Two convolutions, a residual sum, a mean and a matrix product, written by hand."""
    image = ops.parameter([-1, 3, 8, 8], np.float32, "image")
    image.output(0).get_tensor().set_names({"image"})
    first = ops.relu(ops.convolution(image, weight(8, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], name="stem"), name="relu")
    second = ops.convolution(first, weight(8, 8, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], name="body")
    total = ops.add(second, first, name="sum")
    mean = ops.reduce_mean(total, ops.constant([2, 3]), False, name="mean")
    return saved(ops.matmul(mean, weight(8, 5), False, False, name="head"), [image], tmp_path / "cnn")


@pytest.fixture
def transformer(tmp_path: Path) -> Artifact:
    """An embedding and one block of attention."""
    ids = ops.parameter([-1, 6], np.int64, "ids")
    ids.output(0).get_tensor().set_names({"ids"})
    x = ops.gather(weight(11, 16), ids, ops.constant(0), name="embed")
    query, key, value = (ops.matmul(x, weight(16, 16), False, True, name=name) for name in ("query", "key", "value"))
    scores = ops.softmax(ops.matmul(query, key, False, True, name="scores"), 2, name="softmax")
    x = ops.matmul(ops.matmul(scores, value, False, False, name="mix"), weight(16, 16), False, True, name="out")
    return saved(ops.reduce_mean(x, ops.constant([1]), False, name="pool"), [ids], tmp_path / "transformer")


def quantize(
    name: str, model: Artifact, out: Path, scheme: Int8Scheme | None = X86, data: Samples | None = None, **spec: object
) -> Artifact:
    out.mkdir()
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "q")
    context = Context(example={}, calibration=data or Samples(IMAGES), scheme=scheme)  # type: ignore[arg-type]
    return quantizer.perform(model, quantizer.plan(model, context), out, context)


def plan(name: str, model: Artifact, **spec: object) -> dict[str, str]:
    quantizer = create(Quantizer, {"use": name, "spec": spec}, "q")
    return {layer.layer: layer.precision for layer in quantizer.plan(model, Context(example={}, scheme=X86))}


def types(model: Artifact) -> dict[str, set[str]]:
    """Element types that the stored constants feed into each named layer."""
    found: dict[str, set[str]] = {}
    for node in openvino_ir.read(model.model).get_ops():
        if node.get_friendly_name() in ("stem", "body", "head", "embed", "query", "out"):
            found[node.get_friendly_name()] = {t for value in node.input_values() for t in _stored(value.get_node())}
    return found


def _stored(node: Any) -> set[str]:
    if node.get_type_name() == "Constant":
        return {node.get_element_type().get_type_name()} if node.get_element_type() != openvino.Type.i64 else set()
    if node.get_type_name() not in ("Convert", "Multiply", "Subtract", "Reshape"):
        return set()
    return _stored(node.input_value(0).get_node())


def weights(model: Artifact, layer: str) -> np.ndarray:
    node = next(n for n in openvino_ir.read(model.model).get_ops() if n.get_friendly_name() == layer).input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.array(node.get_data())


def ranges(model: Artifact) -> list[tuple[float, float]]:
    quantizers = [n for n in openvino_ir.read(model.model).get_ordered_ops() if n.get_type_name() == "FakeQuantize"]
    return [(float(q.input_value(1).get_node().get_data().min()), float(q.input_value(2).get_node().get_data().max())) for q in quantizers]


def test_static_plan_tells_what_the_file_then_holds(cnn: Artifact, tmp_path: Path) -> None:
    assert plan("openvino_int8_static", cnn) == dict.fromkeys(("stem", "body", "sum", "mean", "head"), "int8-static")
    made = quantize("openvino_int8_static", cnn, tmp_path / "q")
    assert types(made) == {"stem": {"i8"}, "body": {"i8"}, "head": {"i8"}}
    assert made.metadata == {"origin": "by hand"}


def test_excluded_layer_keeps_float_weights_and_unquantized_input(cnn: Artifact, tmp_path: Path) -> None:
    made = quantize("openvino_int8_static", cnn, tmp_path / "q", exclude=["st*"])
    assert types(made) == {"stem": {"f32"}, "body": {"i8"}, "head": {"i8"}}
    first = next(n for n in openvino_ir.read(made.model).get_ops() if n.get_friendly_name() == "stem").input_value(0).get_node()
    assert first.get_type_name() == "Parameter"


def test_minmax_is_the_smallest_and_largest_value_of_all_samples(cnn: Artifact, tmp_path: Path) -> None:
    low, high = ranges(quantize("openvino_int8_static", cnn, tmp_path / "q"))[0]
    step = float(IMAGES.max() - IMAGES.min()) / 255
    assert low == pytest.approx(IMAGES.min(), abs=step)
    assert high == pytest.approx(IMAGES.max(), abs=step)


def test_percentile_cuts_the_share_it_says_off_both_ends(cnn: Artifact, tmp_path: Path) -> None:
    low, high = ranges(quantize("openvino_int8_static", cnn, tmp_path / "q", calibration="percentile", percentile=90))[0]
    assert high == pytest.approx(np.mean([np.quantile(image, 0.95) for image in IMAGES]), abs=0.05)
    assert low == pytest.approx(np.mean([np.quantile(image, 0.05) for image in IMAGES]), abs=0.05)


def test_symmetric_scheme_puts_zero_in_the_middle(cnn: Artifact, tmp_path: Path) -> None:
    low, high = ranges(quantize("openvino_int8_static", cnn, tmp_path / "q", SYMMETRIC))[0]
    assert low == pytest.approx(-high * 128 / 127, rel=1e-3)


def test_reduced_range_keeps_weights_to_seven_bits(cnn: Artifact, tmp_path: Path) -> None:
    old, new = (quantize("openvino_int8_static", cnn, tmp_path / str(i), scheme) for i, scheme in enumerate((OLD_X86, X86)))
    for layer in ("stem", "body", "head"):
        assert np.abs(weights(old, layer).astype(int)).max() <= 64 < np.abs(weights(new, layer).astype(int)).max()


def test_per_tensor_weights_have_one_scale(cnn: Artifact, tmp_path: Path) -> None:
    made = quantize("openvino_int8_static", cnn, tmp_path / "q", granularity="tensor")
    node = next(n for n in openvino_ir.read(made.model).get_ops() if n.get_friendly_name() == "stem").input_value(1).get_node()
    assert node.get_type_name() == "Multiply"
    assert node.input_value(1).get_node().get_data().size == 1


def test_settings_that_nncf_lacks_are_refused_with_what_it_has(cnn: Artifact, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="no entropy calibration") as problem:
        plan("openvino_int8_static", cnn, calibration="entropy")
    assert "percentile" in problem.value.hint
    with pytest.raises(QuantizationError, match="signed everywhere"):
        quantize("openvino_int8_static", cnn, tmp_path / "q", TENSORRT)
    with pytest.raises(QuantizationError, match="one scale a channel"):
        plan("openvino_int8_dynamic", cnn, granularity="tensor")


def test_statistics_are_merged_as_they_come_and_nncf_is_left_as_it_was(cnn: Artifact, tmp_path: Path) -> None:
    from nncf.common.tensor_statistics.collectors import MeanAggregator, MinAggregator
    from nncf.tensor import Tensor

    from edgekit.quantizers._openvino import running_statistics

    before = MeanAggregator._register_reduced_input_impl, MinAggregator._aggregate_impl
    values = [RNG.normal(size=(1, 4, 1, 1)).astype(np.float32) for _ in range(50)]
    with running_statistics():
        mean, low = MeanAggregator(num_samples=None), MinAggregator(num_samples=None)
        for value in values:
            mean.register_reduced_input(Tensor(value))
            low.register_reduced_input(Tensor(value))
            assert len(mean._container) == len(low._container) == 1
        np.testing.assert_allclose(mean.aggregate().data, np.mean(values, axis=0), rtol=1e-5)
        np.testing.assert_array_equal(low.aggregate().data, np.min(values, axis=0))
    assert (MeanAggregator._register_reduced_input_impl, MinAggregator._aggregate_impl) == before


def test_attention_is_recognised_and_its_products_become_int8(transformer: Artifact, cnn: Artifact, tmp_path: Path) -> None:
    from edgekit.quantizers.openvino_int8_static import is_transformer

    assert is_transformer(openvino_ir.read(transformer.model))
    assert not is_transformer(openvino_ir.read(cnn.model))
    ids = Samples(RNG.integers(0, 11, (20, 6)), "ids")
    made = quantize("openvino_int8_static", transformer, tmp_path / "q", data=ids)
    assert types(made) == {"embed": {"i8"}, "query": {"i8"}, "out": {"i8"}}


def test_dynamic_stores_every_weight_in_8_bits_and_the_cpu_quantizes_activations(transformer: Artifact, tmp_path: Path) -> None:
    made = quantize("openvino_int8_dynamic", transformer, tmp_path / "q")
    assert types(made) == {"embed": {"i8"}, "query": {"i8"}, "out": {"i8"}}
    assert made.precision == "int8-dynamic"
    assert types(quantize("openvino_int8_dynamic", transformer, tmp_path / "r", exclude=["query"]))["query"] == {"f32"}


def test_half_precision_leaves_excluded_layers_and_large_weights_alone(cnn: Artifact, tmp_path: Path) -> None:
    assert types(quantize("openvino_fp16", cnn, tmp_path / "a")) == {"stem": {"f16"}, "body": {"f16"}, "head": {"f16"}}
    assert types(quantize("openvino_fp16", cnn, tmp_path / "b", exclude=["body"])) == {"stem": {"f16"}, "body": {"f32"}, "head": {"f16"}}
    model = openvino_ir.read(cnn.model)
    stem = next(n for n in model.get_ops() if n.get_friendly_name() == "stem")
    stem.input(1).replace_source_output(ops.constant(np.full((8, 3, 3, 3), 1e5, np.float32)).output(0))
    (tmp_path / "large").mkdir()
    openvino_ir.save(model, tmp_path / "large")
    large = openvino_ir.describe(tmp_path / "large", model, "fp32", {})
    assert plan("openvino_fp16", large)["stem"] == "fp32"
    assert np.all(weights(quantize("openvino_fp16", large, tmp_path / "c"), "stem") == 1e5)


@pytest.fixture
def noisy(tmp_path: Path) -> Artifact:
    """One channel of the stem is 50 times the others and the body ignores it: noise for nothing."""
    rng = np.random.default_rng(4)
    stem, body = (rng.normal(size=(8, n, 3, 3)).astype(np.float32) * 0.3 for n in (3, 8))
    stem[0] *= 50
    body[:, 0] = 0
    image = ops.parameter([-1, 3, 8, 8], np.float32, "image")
    image.output(0).get_tensor().set_names({"image"})
    x = ops.relu(ops.convolution(image, ops.constant(stem), [1, 1], [1, 1], [1, 1], [1, 1], name="stem"), name="relu")
    x = ops.relu(ops.convolution(x, ops.constant(body), [2, 2], [1, 1], [1, 1], [1, 1], name="body"), name="relu2")
    flat = ops.reshape(x, ops.constant([0, -1]), True, name="flat")
    return saved(ops.matmul(flat, weight(128, 5), False, False, name="head"), [image], tmp_path / "noisy")


def wished(model: Artifact, wanted: float) -> dict[str, tuple[str, str]]:
    quantizer = create(Quantizer, {"use": "openvino_int8_static", "spec": {"min_sqnr": wanted}}, "q")
    context = Context(example={}, calibration=Samples(IMAGES), scheme=OLD_X86)  # type: ignore[arg-type]
    return {layer.layer: (layer.precision, layer.reason) for layer in quantizer.plan(model, context)}


def test_noisy_layer_stays_in_float_until_the_outputs_are_clean_enough(noisy: Artifact, tmp_path: Path) -> None:
    found = wished(noisy, 30)
    assert {name: precision for name, (precision, _) in found.items()} == {"stem": "int8-static", "body": "fp32", "head": "int8-static"}
    assert found["body"][1].endswith("kept in float to reach 30 dB")
    made = quantize("openvino_int8_static", noisy, tmp_path / "q", OLD_X86, min_sqnr=30)
    right, outputs = (
        openvino.Core().compile_model(str(m.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(IMAGES)[0] for m in (noisy, made)
    )
    assert 10 * np.log10((right**2).sum() / ((outputs - right) ** 2).sum()) > 30


def test_modest_wish_keeps_all_layers_integer_and_tells_what_each_costs(noisy: Artifact) -> None:
    found = wished(noisy, 5)
    assert {precision for precision, _ in found.values()} == {"int8-static"}
    noise = {name: float(reason.split()[0]) for name, (_, reason) in found.items()}
    assert noise["body"] < min(noise["stem"], noise["head"]) - 10


def test_wish_beyond_int8_says_what_can_be_had(noisy: Artifact) -> None:
    with pytest.raises(QuantizationError, match="no layer in int8") as problem:
        wished(noisy, 120)
    assert "dB alone" in problem.value.hint


def test_one_layer_alone_differs_from_float_by_its_own_noise_only(noisy: Artifact, tmp_path: Path) -> None:
    from edgekit.quantizers._openvino_sensitivity import restore_all_but

    made = openvino_ir.read(quantize("openvino_int8_static", noisy, tmp_path / "q").model)
    graph = openvino_ir.read(noisy.model)
    restore_all_but("nothing", made, graph)
    compiled = [openvino.Core().compile_model(m, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for m in (graph, made)]
    np.testing.assert_allclose(compiled[1](IMAGES)[0], compiled[0](IMAGES)[0], rtol=1e-5, atol=1e-5)
