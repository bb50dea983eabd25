import random
import shutil

import pytest

from edgekit.core.errors import SourceError
from edgekit.inspection import inspect

CONV = 4 * 36 * 27


def test_a_float_model(openvino_model):
    path = openvino_model()
    found = inspect(path)
    assert (found.format, found.parameters, found.macs) == ("openvino", 4 * 27 + 20, CONV + 20)
    assert found.size == path.stat().st_size + path.with_suffix(".bin").stat().st_size
    assert found.files == (path.name, path.with_suffix(".bin").name)
    assert found.precisions == {"fp32": 2}
    assert found.quantization is None
    assert [(end.name, end.dtype, end.shape) for end in found.inputs] == [("x", "float32", (1, 3, 8, 8))]
    assert [(end.dtype, end.shape) for end in found.outputs] == [("float32", (1, 5))]


def test_half_precision_is_storage(openvino_model):
    assert inspect(openvino_model(fp16=True)).precisions == {"fp16 weights": 2}


def test_fake_quantized_layers_are_int8(openvino_model):
    found = inspect(openvino_model(kind="static"))
    assert found.precisions == {"int8": 2}
    assert found.parameters == 4 * 27 + 20
    q = found.quantization
    assert (q.kind, q.weights, q.per_channel, q.full_range) == ("static", ("int8",), True, True)


def test_compressed_weights_are_weights_only(openvino_model):
    found = inspect(openvino_model(kind="weights"))
    assert found.precisions == {"int8 weights": 2}
    assert found.quantization.kind == "weights"
    assert found.parameters == 4 * 27 + 20


def test_7_bit_weights_are_told(openvino_model):
    assert inspect(openvino_model(kind="static", largest=64)).quantization.full_range is False
    assert inspect(openvino_model(kind="static", largest=65)).quantization.full_range is True


def test_unpacking_is_plumbing_and_holds_no_parameters(openvino_model):
    found = inspect(openvino_model(kind="static"))
    multiplies = [layer for layer in found.layers if layer.operator == "Multiply"]
    assert [(layer.parameters, layer.precision) for layer in multiplies] == [(0, ""), (0, "")]


def test_missing_weights_are_noted(openvino_model):
    path = openvino_model()
    path.with_suffix(".bin").unlink()
    found = inspect(path)
    assert found.files == (path.name,)
    assert any("is missing" in note for note in found.notes)


def test_truncated_weights_are_an_error(openvino_model):
    path = openvino_model()
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"\.bin: is truncated; .* of 100"):
        inspect(path)


def test_the_weights_file_points_to_its_model(openvino_model):
    path = openvino_model()
    with pytest.raises(SourceError, match=f"inspect .*{path.name}"):
        inspect(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("<net", "no XML"),
        ("<html/>", "no OpenVINO model"),
        ('<net version="6"><layers/></net>', "IR version 10"),
        ('<net version="11"><layers/><edges/></net>', "no graph"),
        ('<net version="11"><layers><layer id="0"/></layers></net>', "damaged"),
        (
            '<net version="11"><layers><layer id="0" name="a" type="Relu"/></layers>'
            '<edges><edge from-layer="9" to-layer="0" from-port="0" to-port="0"/></edges></net>',
            "damaged",
        ),
        (
            '<net version="11"><layers><layer id="0" name="a" type="Reshape"/><layer id="1" name="b" type="Reshape"/></layers><edges>'
            '<edge from-layer="0" to-layer="1" from-port="0" to-port="0"/>'
            '<edge from-layer="1" to-layer="0" from-port="0" to-port="0"/></edges></net>',
            "no graph",
        ),
        ('<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><net version="11"><layers/></net>', "entities"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path, text, message):
    path = tmp_path / "bad.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        inspect(path)


def test_damage_is_an_error_of_ours_or_no_error(openvino_model, tmp_path):
    path = openvino_model(kind="static")
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.xml"
    shutil.copy(path.with_suffix(".bin"), damaged.with_suffix(".bin"))
    rng = random.Random(0)
    refused: list[SourceError] = []
    for _ in range(150):
        data = bytearray(whole)
        if rng.random() < 0.2:
            data = data[: rng.randrange(1, len(data))]
        for _ in range(rng.choice([1, 2])):
            data[rng.randrange(len(data))] = rng.randrange(32, 127)
        damaged.write_bytes(data)
        try:
            inspect(damaged)
        except SourceError as problem:
            refused.append(problem)
    assert len(refused) > 50
    assert all("\n" not in problem.message and problem.hint for problem in refused)
