import random
import shutil

import numpy as np
import pytest

from edgekit.core.errors import SourceError
from edgekit.inspection import inspect


def layers(found):
    return {layer.name: layer for layer in found.layers}


def test_a_float_graph(float_onnx):
    found = inspect(float_onnx)
    assert (found.format, found.opset, found.size) == ("onnx", 20, float_onnx.stat().st_size)
    assert found.parameters == 4 * 3 * 9 + 4 + 5 * 4 + 5
    assert found.operators == {"Conv": 1, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 1}
    assert found.precisions == {"fp32": 2}
    assert found.quantization is None
    assert [(end.name, end.dtype, end.shape) for end in found.inputs] == [("x", "float32", ("batch", 3, 8, 8))]
    assert [(end.name, end.dtype, end.shape) for end in found.outputs] == [("y", "float32", ("batch", 5))]


def test_macs_are_those_of_one_sample(float_onnx):
    found = inspect(float_onnx)
    conv = 4 * 6 * 6 * 3 * 3 * 3
    assert layers(found)["conv"].macs == conv
    assert layers(found)["fc"].macs == 5 * 4
    assert layers(found)["relu"].macs is None
    assert found.macs == conv + 20


def test_layers_have_shapes_parameters_and_precision(float_onnx):
    conv = layers(inspect(float_onnx))["conv"]
    assert (conv.operator, conv.shape, conv.parameters, conv.precision, conv.computes) == ("Conv", ("batch", 4, 6, 6), 112, "fp32", True)


def test_static_qdq(quantized_onnx):
    found = inspect(quantized_onnx())
    assert found.precisions == {"int8": 2}
    q = found.quantization
    assert (q.kind, q.activations, q.weights, q.per_channel, q.symmetric) == ("static", ("uint8",), ("int8",), True, False)
    assert q.full_range is True
    assert found.parameters == inspect(quantized_onnx()).parameters == 137
    assert layers(found)["conv"].macs == 3888


def test_symmetric_and_7_bit_weights_are_told(quantized_onnx):
    assert inspect(quantized_onnx(activations="int8", symmetric=True)).quantization.symmetric is True
    assert inspect(quantized_onnx(reduce_range=True)).quantization.full_range is False


def test_qoperator_counts_as_int8(quantized_onnx):
    found = inspect(quantized_onnx(qdq=False))
    assert found.operators["QLinearConv"] == 1
    assert found.quantization.kind == "static"
    assert found.precisions["int8"] >= 1


def test_a_layer_left_in_float_is_seen(float_onnx, samples, tmp_path):
    from onnxruntime.quantization import QuantType, quantize_static

    out = tmp_path / "partly.onnx"
    quantize_static(str(float_onnx), str(out), samples(), nodes_to_exclude=["fc"], weight_type=QuantType.QInt8)
    found = inspect(out)
    assert found.precisions == {"fp32": 1, "int8": 1}
    assert layers(found)["fc"].precision == "fp32"


def test_dynamic_quantization(float_onnx, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    out = tmp_path / "dynamic.onnx"
    quantize_dynamic(str(float_onnx), str(out))
    found = inspect(out)
    assert found.quantization.kind == "dynamic"
    assert found.operators["ConvInteger"] == 1
    assert found.precisions["int8"] >= 1


def weights_only(path, weights):
    """A DequantizeLinear on the weights and none on the data: integers that are computed in float."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"], name="dq"),
        helper.make_node("MatMul", ["x", "wf"], ["y"], name="matmul"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(0.1), "s")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_weights_only(tmp_path):
    found = inspect(weights_only(tmp_path / "w.onnx", np.ones((4, 2), np.int8)))
    assert found.precisions == {"int8 weights": 1}
    assert (found.quantization.kind, found.parameters, found.macs) == ("weights", 8, 8)


@pytest.mark.parametrize(("largest", "full"), [(64, False), (65, True), (-64, False), (-65, True)])
def test_the_eighth_bit_of_a_weight_is_seen(tmp_path, largest, full):
    weights = np.zeros((4, 2), np.int8)
    weights[1, 1] = largest
    assert inspect(weights_only(tmp_path / "w.onnx", weights)).quantization.full_range is full


def test_external_data_is_counted_and_not_read(float_onnx, tmp_path):
    import onnx

    out = tmp_path / "outside.onnx"
    onnx.save(onnx.load(float_onnx), out, save_as_external_data=True, location="weights.data", size_threshold=0)
    data = tmp_path / "weights.data"
    found = inspect(out)
    assert found.files == ("outside.onnx", "weights.data")
    assert found.size == out.stat().st_size + data.stat().st_size
    assert (found.parameters, found.macs) == (137, 3908)
    data.write_bytes(b"\0" * 10)
    assert inspect(out).parameters == 137


def test_missing_external_data_is_noted(float_onnx, tmp_path):
    import onnx

    out = tmp_path / "outside.onnx"
    onnx.save(onnx.load(float_onnx), out, save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "weights.data").unlink()
    assert any("weights.data is missing" in note for note in inspect(out).notes)


def test_external_data_outside_the_folder_is_refused(float_onnx, tmp_path):
    import onnx

    model = onnx.load(float_onnx)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    (tmp_path / "evil.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match="outside its folder"):
        inspect(tmp_path / "evil.onnx")


def test_operators_in_branches_are_counted(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    def branch(operator, name):
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [1])
        return helper.make_graph([helper.make_node(operator, ["x"], [f"{name}_out"])], name, [], [out])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu", "then"), else_branch=branch("Neg", "else"))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, []), helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "if.onnx")
    assert inspect(tmp_path / "if.onnx").operators == {"If": 1, "Neg": 1, "Relu": 1}


def test_a_node_that_reads_nothing_is_named(float_onnx):
    import onnx

    model = onnx.load(float_onnx)
    model.graph.node[1].input[0] = "nowhere"
    float_onnx.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"'relu' \(Relu\) reads 'nowhere'"):
        inspect(float_onnx)


def test_a_node_without_its_weights_is_named(float_onnx):
    import onnx

    model = onnx.load(float_onnx)
    del model.graph.node[0].input[1:]
    float_onnx.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"'conv' \(Conv\) lacks inputs"):
        inspect(float_onnx)


@pytest.mark.parametrize("content", [b"\0", b"not a model at all", b"\x08\x07"])
def test_what_is_no_onnx_is_one_line(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="no ONNX model"):
        inspect(path)


def test_damage_is_an_error_of_ours_or_no_error(float_onnx, tmp_path):
    """Cut, flip and drop bytes: never another exception, never more than one line."""
    rng = random.Random(0)
    whole = float_onnx.read_bytes()
    path = tmp_path / "damaged.onnx"
    refused: list[SourceError] = []
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.4:
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


def test_the_file_is_left_as_it_was(float_onnx):
    before = float_onnx.read_bytes()
    inspect(float_onnx)
    assert float_onnx.read_bytes() == before


def test_size_counts_for_a_copy_elsewhere(float_onnx, tmp_path):
    copy = tmp_path / "elsewhere" / "m.onnx"
    copy.parent.mkdir()
    shutil.copy(float_onnx, copy)
    assert inspect(copy).model_copy(update={"path": "", "files": ()}) == inspect(float_onnx).model_copy(update={"path": "", "files": ()})
