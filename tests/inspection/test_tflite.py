import os
import random
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import SourceError
from edgekit.core.resources import data_root
from edgekit.inspection import inspect


def conv(tflite, *, kind="FLOAT32", weights="FLOAT32", zero_point=0, per_channel=True):
    scaled = {"scales": [0.1], "zero_points": [zero_point]} if kind != "FLOAT32" else {}
    of_weights = {"scales": [0.1] * (8 if per_channel else 1)} if weights in ("INT8", "INT4") else {}
    dtype = {"FLOAT32": np.float32, "INT8": np.int8, "FLOAT16": np.float16}[weights]
    x = tflite.tensor("x", (1, 8, 8, 3), kind, **scaled)
    w = tflite.tensor("w", (8, 3, 3, 3), weights, data=np.zeros((8, 3, 3, 3), dtype), **of_weights)
    b = tflite.tensor("b", (8,), "INT32" if kind != "FLOAT32" else "FLOAT32", data=np.zeros(8, np.int32), **of_weights)
    y = tflite.tensor("y", (1, 6, 6, 8), kind, **scaled)
    tflite.operator("CONV_2D", (x, w, b), (y,))
    return x, y


def test_a_float_convolution(tflite):
    x, y = conv(tflite)
    found = inspect(tflite.write([x], [y]))
    assert (found.format, found.producer, found.parameters, found.macs) == ("tflite", "tiny", 8 * 27 + 8, 8 * 36 * 27)
    assert found.operators == {"CONV_2D": 1}
    assert found.precisions == {"fp32": 1}
    assert found.quantization is None
    assert [(end.name, end.dtype, end.shape) for end in found.inputs] == [("x", "float32", (1, 8, 8, 3))]
    assert [(end.name, end.dtype, end.shape) for end in found.outputs] == [("y", "float32", (1, 6, 6, 8))]


def test_a_static_int8_convolution(tflite):
    x, y = conv(tflite, kind="INT8", weights="INT8", zero_point=-3)
    found = inspect(tflite.write([x], [y]))
    assert found.precisions == {"int8": 1}
    assert found.parameters == 8 * 27 + 8
    q = found.quantization
    assert (q.kind, q.activations, q.weights, q.symmetric, q.per_channel) == ("static", ("int8",), ("int8",), False, True)


def test_zero_point_0_and_one_scale(tflite):
    x, y = conv(tflite, kind="INT8", weights="INT8", per_channel=False)
    q = inspect(tflite.write([x], [y])).quantization
    assert (q.symmetric, q.per_channel) == (True, False)


def test_float_data_on_integer_weights_is_dynamic(tflite):
    x, y = conv(tflite, weights="INT8")
    found = inspect(tflite.write([x], [y]))
    assert found.precisions == {"int8": 1}
    assert found.quantization.kind == "dynamic"
    assert found.notes == ()


def test_dequantized_weights_are_weights_only(tflite):
    x = tflite.tensor("x", (1, 4))
    stored = tflite.tensor("w8", (2, 4), "INT8", data=np.zeros((2, 4), np.int8), scales=[0.1, 0.1])
    w = tflite.tensor("w", (2, 4))
    y = tflite.tensor("y", (1, 2))
    tflite.operator("DEQUANTIZE", (stored,), (w,))
    tflite.operator("FULLY_CONNECTED", (x, w, -1), (y,))
    found = inspect(tflite.write([x], [y]))
    assert found.precisions == {"int8 weights": 1}
    assert (found.quantization.kind, found.parameters, found.macs) == ("weights", 8, 8)


def test_half_precision_weights(tflite):
    x = tflite.tensor("x", (1, 4))
    stored = tflite.tensor("w16", (2, 4), "FLOAT16", data=np.zeros((2, 4), np.float16))
    w = tflite.tensor("w", (2, 4))
    y = tflite.tensor("y", (1, 2))
    tflite.operator("DEQUANTIZE", (stored,), (w,))
    tflite.operator("FULLY_CONNECTED", (x, w), (y,))
    found = inspect(tflite.write([x], [y]))
    assert found.precisions == {"fp16 weights": 1}
    assert found.quantization is None


def test_dynamic_per_channel_fully_connected_is_warned_of(tflite):
    x = tflite.tensor("x", (1, 4))
    w = tflite.tensor("w", (2, 4), "INT8", data=np.zeros((2, 4), np.int8), scales=[0.1, 0.2])
    y = tflite.tensor("y", (1, 2))
    tflite.operator("FULLY_CONNECTED", (x, w), (y,))
    assert any("tflite-runtime 2.14" in note for note in inspect(tflite.write([x], [y])).notes)


def test_depthwise_transposed_and_batched_macs(tflite):
    x = tflite.tensor("x", (1, 8, 8, 4))
    w = tflite.tensor("w", (1, 3, 3, 4), data=np.zeros((1, 3, 3, 4), np.float32))
    d = tflite.tensor("d", (1, 6, 6, 4))
    tflite.operator("DEPTHWISE_CONV_2D", (x, w), (d,))
    size = tflite.tensor("size", (4,), "INT32", data=np.array([1, 12, 12, 5], np.int32))
    u = tflite.tensor("u", (5, 2, 2, 4), data=np.zeros((5, 2, 2, 4), np.float32))
    t = tflite.tensor("t", (1, 12, 12, 5))
    tflite.operator("TRANSPOSE_CONV", (size, u, d), (t,))
    a, b, c = (tflite.tensor(name, shape) for name, shape in (("a", (1, 2, 7)), ("b", (1, 7, 3)), ("c", (1, 2, 3))))
    tflite.operator("BATCH_MATMUL", (a, b), (c,))
    found = inspect(tflite.write([x, a, b], [t, c]))
    assert [layer.macs for layer in found.layers] == [36 * 4 * 9, 36 * 4 * 5 * 2 * 2, 6 * 7]


def test_custom_operators_are_named(tflite):
    x, y = tflite.tensor("x", (1,)), tflite.tensor("y", (1,))
    tflite.operator("CUSTOM", (x,), (y,), custom="FlexErf")
    assert inspect(tflite.write([x], [y])).operators == {"custom:FlexErf": 1}


def test_a_varying_batch_is_unnamed_and_counts_once(tflite):
    x, y = conv(tflite)
    for number in (x, y):
        tensor = tflite.graph.tensors[number]
        tensor.shapeSignature = [-1, *tensor.shape[1:]]
    found = inspect(tflite.write([x], [y]))
    assert found.inputs[0].shape == ("?", 8, 8, 3)
    assert found.macs == 8 * 36 * 27


def test_an_input_that_a_tensor_lacks_is_a_damaged_file(tflite):
    x, y = conv(tflite)
    tflite.graph.operators[0].inputs = [x, 99]
    with pytest.raises(SourceError, match="truncated or no TFLite"):
        inspect(tflite.write([x], [y]))


@pytest.mark.parametrize("content", [b"\0", b"abcdTFL3", b"\x1c\0\0\0TFL3" + b"\0" * 40, os.urandom(500)])
def test_what_is_no_tflite_is_one_line(tmp_path, content):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="truncated or no TFLite model"):
        inspect(path)


def test_damage_is_an_error_of_ours_or_no_error(tflite):
    x, y = conv(tflite, kind="INT8", weights="INT8")
    path = tflite.write([x], [y])
    whole = path.read_bytes()
    rng = random.Random(0)
    refused: list[SourceError] = []
    for _ in range(400):
        data = bytearray(whole)
        if rng.random() < 0.3:
            data = data[: rng.randrange(1, len(data))]
        for _ in range(rng.choice([1, 2, 10])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            inspect(path)
        except SourceError as problem:
            refused.append(problem)
    assert len(refused) > 100
    assert all("\n" not in problem.message and problem.hint for problem in refused)


@pytest.mark.slow
def test_a_real_network_has_its_published_size():
    path: Path = data_root() / "imagenet" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    if not path.is_file():
        pytest.skip("EDGEKIT_DATA is absent")
    found = inspect(path)
    assert found.macs == 300_775_552
    assert found.parameters == 3_489_097
    assert found.precisions == {"int8": 53}
