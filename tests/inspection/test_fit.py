from edgekit.core.target import load_target
from edgekit.inspection import Inspection, LayerInfo, inspect
from edgekit.inspection.fit import fit


def said(path, target, runtime):
    """Concerns of one runtime, as (severity, message)."""
    found = inspect(path, target=load_target(target)).fit
    backend = next(b for b in found.backends if b.runtime == runtime)
    return [(concern.severity, concern.message) for concern in backend.concerns]


def test_without_a_target_nothing_is_judged(float_onnx):
    assert inspect(float_onnx).fit is None


def test_a_float_model_fits_everywhere_its_format_runs(float_onnx):
    found = inspect(float_onnx, target=load_target("raspberry-pi-4")).fit
    assert (found.runs, found.problem) == (True, "")
    assert said(float_onnx, "raspberry-pi-4", "onnxruntime") == []


def test_8_bit_weights_saturate_without_vnni_and_7_bit_weights_do_not(quantized_onnx):
    (severity, message) = said(quantized_onnx(), "x86-avx2", "onnxruntime")[0]
    assert severity == "stops"
    assert "saturate" in message
    assert said(quantized_onnx(reduce_range=True), "x86-avx2", "onnxruntime") == []
    assert said(quantized_onnx(), "x86-avx512-vnni", "onnxruntime") == []


def test_signed_activations_are_slow_on_x86(quantized_onnx):
    path = quantized_onnx(activations="int8", symmetric=True)
    assert said(path, "x86-amx", "onnxruntime") == [("slows", "activations are int8, the fast int8 kernels take uint8")]


def test_tensorrt_takes_symmetric_int8_only(quantized_onnx):
    assert said(quantized_onnx(activations="int8", symmetric=True), "jetson-orin-nano", "tensorrt") == []
    unsigned = said(quantized_onnx(), "jetson-orin-nano", "tensorrt")
    assert unsigned == [("stops", "activations are uint8, the fast int8 kernels take int8")]
    shifted = said(quantized_onnx(activations="int8"), "jetson-orin-nano", "tensorrt")
    assert shifted == [("stops", "activations have zero points other than 0, the int8 kernels take 0 only")]


def test_tensorrt_does_not_read_operators_of_onnx_runtime(quantized_onnx):
    messages = [message for _, message in said(quantized_onnx(qdq=False), "jetson-orin-nano", "tensorrt")]
    assert any("does not read" in message and "QLinearConv" in message for message in messages)


def test_maxwell_has_no_int8_and_reads_old_opsets(quantized_onnx):
    found = said(quantized_onnx(activations="int8", symmetric=True), "jetson-nano", "tensorrt")
    assert ("stops", "TensorRT 8.2.1 (JetPack 4.6) reads operators up to opset 13, the file has opset 20") in found
    assert any("no int8 kernels" in message for _, message in found)


def test_openvino_simulates_int8_on_a_raspberry_pi_4(openvino_model):
    found = said(openvino_model(kind="static"), "raspberry-pi-4", "openvino")
    assert found == [("slows", "no int8 kernels in openvino here, int8 layers are computed in float")]


def test_layers_left_in_float_are_named(float_onnx, samples, tmp_path):
    from onnxruntime.quantization import QuantType, quantize_static

    out = tmp_path / "partly.onnx"
    quantize_static(
        str(float_onnx), str(out), samples(), nodes_to_exclude=["fc"], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    )
    found = inspect(out, target=load_target("x86-amx")).fit
    concern = found.backends[0].concerns[0]
    assert (concern.message, concern.layers) == ("1 of 2 computing layers stay in float", ("fc",))
    assert found.runs


def test_a_format_that_the_target_does_not_load(tmp_path, openvino_model):
    found = inspect(openvino_model(), target=load_target("jetson-nano")).fit
    assert (found.runs, found.backends) == (False, ())
    assert found.problem == "jetson-nano loads onnx, not openvino"


def test_a_checkpoint_is_told_how_to_get_there(tmp_path):
    import torch

    torch.save({"w": torch.zeros(2)}, tmp_path / "m.pth")
    found = inspect(tmp_path / "m.pth", target=load_target("raspberry-pi-4")).fit
    assert not found.runs
    assert "edgekit compress" in found.problem


def test_a_file_larger_than_the_memory_does_not_fit(float_onnx):
    small = load_target("raspberry-pi-3").model_copy(update={"memory_mb": 1})
    big = inspect(float_onnx).model_copy(update={"size": 5 << 20})
    from edgekit.inspection.fit import fit

    concern = fit(big, small).backends[0].concerns[0]
    assert (concern.severity, concern.message) == ("stops", "the file has 5 MiB, the device 1 MiB of memory")


def described(*layers: LayerInfo, **more: object) -> Inspection:
    content = {"path": "m.onnx", "format": "onnx", "size": 1 << 20, "files": ("m.onnx",), "parameters": 1000, "layers": layers}
    return Inspection.model_validate({**content, **more})


def test_an_operator_of_another_domain_stops_the_model():
    fitted = fit(described(LayerInfo(name="n", operator="acme.Sharpen")), load_target("x86-avx2"))
    assert [c.message for c in fitted.backends[0].concerns] == ["onnxruntime has no acme.Sharpen; it needs a library of its own"]
    assert not fitted.runs


def test_recurrent_layers_stay_in_float():
    layer = LayerInfo(name="n", operator="LSTM", precision="fp32", computes=True)
    (concern,) = fit(described(layer), load_target("x86-avx2")).backends[0].concerns
    assert (concern.severity, concern.layers) == ("slows", ("n",))


def test_activations_count_as_memory():
    target = load_target("raspberry-pi-4").model_copy(update={"memory_mb": 64})
    fitted = fit(described(memory=100 << 20), target)
    assert "weights and activations take about 100 MiB, the device 64 MiB" in fitted.backends[0].concerns[0].message
