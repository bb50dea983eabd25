"""What every runtime promises, in every place where it runs: the same inputs give the same outputs, and what is wrong is said."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.core.errors import HostError, SourceError
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.core.registry import create, names
from edgekit.runner import runtime_class, runtime_names

PLACES = {
    "pytorch": ("in_process", "fresh_process"),
    "onnxruntime": ("in_process", "fresh_process"),
    "openvino": ("in_process", "fresh_process"),
    "litert": ("in_process", "fresh_process"),
    "tflite_runtime": ("venv",),  # needs an older NumPy, so an environment that pip has to make
}
CASES = [
    pytest.param((runtime, host), id=f"{runtime}-{host}", marks=[pytest.mark.slow] if host == "venv" else [])
    for runtime, hosts in PLACES.items()
    for host in hosts
]
tiny = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "runner" / "tiny_models.py")))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = os.environ.get("EDGEKIT_TEST_CACHE") or str(tmp_path_factory.mktemp("environments"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", folder)
        yield folder


@pytest.fixture(autouse=True)
def _one_environment_for_all_tests(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", store)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    runtime, host = request.param
    folder = tmp_path_factory.mktemp("model")
    name, write = tiny.WRITERS[runtime]
    model = write(folder / name)
    place = create(Host, host, "host")
    with place.open(model, runtime, RuntimeSettings()) as session:
        yield SimpleNamespace(runtime=runtime, host=host, place=place, model=model, session=session, folder=folder)


@pytest.fixture
def session(case: SimpleNamespace) -> Session:
    opened: Session = case.session
    return opened


def test_every_runtime_and_host_is_tested_here() -> None:
    assert sorted(PLACES) == runtime_names()
    needs_a_device = {"remote"}  # see tests/deploy
    assert sorted({host for hosts in PLACES.values() for host in hosts} | needs_a_device) == names(Host)


def test_runtimes_are_described_without_their_libraries() -> None:
    assert {name: runtime_class(name).FORMAT for name in runtime_names()} == {
        "pytorch": "torch",
        "onnxruntime": "onnx",
        "openvino": "openvino",
        "litert": "tflite",
        "tflite_runtime": "tflite",
    }
    assert all(runtime_class(name).PACKAGES for name in runtime_names())


def test_inputs_and_outputs_are_described(case: SimpleNamespace, session: Session) -> None:
    index = "int32" if runtime_class(case.runtime).FORMAT == "tflite" else "int64"
    assert [(i.name, i.dtype, i.shape) for i in session.inputs] == [("image", "float32", ("batch", 1, 4, 4)), ("index", index, ("batch",))]
    assert [(o.name, o.dtype, o.shape) for o in session.outputs] == [
        ("logits", "float32", ("batch", 3)),
        ("probabilities", "float32", ("batch", 3)),
    ]


def test_same_outputs_as_numpy_for_any_batch(session: Session) -> None:
    for size in (1, 3, 2, 32, 1):
        inputs = tiny.batch(size, seed=size)
        outputs = session.run(inputs)
        assert list(outputs) == ["logits", "probabilities"]
        for name, wanted in tiny.reference(inputs).items():
            assert outputs[name].dtype == np.float32
            np.testing.assert_allclose(outputs[name], wanted, rtol=0, atol=1e-5)


def test_outputs_outlive_the_next_call(session: Session) -> None:
    inputs = tiny.batch(2, seed=1)
    first = session.run(inputs)
    session.run(tiny.batch(2, seed=2))
    np.testing.assert_allclose(first["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)
    first["logits"][:] = 7.0
    np.testing.assert_allclose(session.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)


def test_inputs_of_any_layout_are_taken_and_left_as_they_are(session: Session) -> None:
    plain = tiny.batch(2)
    image = np.asfortranarray(plain["image"])
    image.flags.writeable = False
    before = image.copy()
    outputs = session.run({"index": plain["index"], "image": image})
    np.testing.assert_allclose(outputs["logits"], tiny.reference(plain)["logits"], rtol=0, atol=1e-5)
    assert np.array_equal(image, before)


def wrong(**changes: object) -> dict[str, np.ndarray]:
    inputs = {**tiny.batch(2), **changes}
    return {name: array for name, array in inputs.items() if array is not None}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (wrong(image=tiny.batch(2)["image"].astype(np.float64)), "'image' is float64, the model wants float32"),
        (wrong(image=tiny.batch(2)["image"].astype(np.float16)), "'image' is float16, the model wants float32"),
        (wrong(image=tiny.batch(2)["image"].astype(np.uint8)), "'image' is uint8, the model wants float32"),
        (wrong(index=tiny.batch(2)["index"].astype(np.float32)), "'index' is float32, the model wants int"),
        (wrong(image=None), "input 'image' is missing; given: index"),
        (wrong(picture=tiny.batch(2)["image"]), "no input 'picture'; it takes: image, index"),
        (wrong(image=tiny.batch(2)["image"][0]), r"'image' has shape \[1, 4, 4\], the model wants \['batch', 1, 4, 4\]"),
        (wrong(image=np.zeros((2, 1, 4, 5), np.float32)), r"'image' has shape \[2, 1, 4, 5\], the model wants \['batch', 1, 4, 4\]"),
        (wrong(image=np.zeros((0, 1, 4, 4), np.float32)), r"'image' has shape \[0, 1, 4, 4\]"),
    ],
    ids=["float64", "float16", "uint8", "index", "missing", "unknown", "rank", "size", "empty"],
)
def test_unfitting_inputs_are_refused_and_the_session_goes_on(session: Session, inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(HostError, match=words):
        session.run(inputs)
    with pytest.raises(HostError, match=words):
        session.time(inputs, seconds=0, at_least=1)
    assert session.run(tiny.batch(1))["logits"].shape == (1, 3)


def test_only_int64_to_int32_is_cast_and_only_without_loss(case: SimpleNamespace, session: Session) -> None:
    if session.inputs[1].dtype != "int32":
        pytest.skip("the model takes int64 itself")
    inputs = tiny.batch(2)
    narrow = session.run({**inputs, "index": inputs["index"].astype(np.int32)})
    assert np.array_equal(narrow["logits"], session.run(inputs)["logits"])
    with pytest.raises(HostError, match="values beyond int32"):
        session.run({**inputs, "index": inputs["index"] + 2**32})


def test_times_are_nanoseconds_of_single_calls(session: Session) -> None:
    laps = session.time(tiny.batch(1), seconds=0.0, at_least=7)
    assert len(laps) == 7
    assert all(isinstance(lap, int) and 100 < lap < 10**9 for lap in laps)
    many = session.time(tiny.batch(1), seconds=0.1, at_least=1)
    assert 0.01 < sum(many) / 1e9 < 0.5


def test_circumstances_say_what_ran_where(case: SimpleNamespace, session: Session) -> None:
    found = session.circumstances
    assert (found["runtime"], found["host"], found["threads"], found["precision"]) == (case.runtime, case.host, 1, "f32")
    assert found["version"][0].isdigit()


def test_memory_of_the_model_is_told_apart_from_the_runtimes(case: SimpleNamespace, session: Session) -> None:
    peak = session.peak_memory()
    assert 20_000_000 < peak < 8_000_000_000
    if case.host != "in_process":
        assert 20_000_000 < session.circumstances["runtime_memory"] <= peak


def test_threads_are_taken_over(case: SimpleNamespace) -> None:
    with case.place.open(case.model, case.runtime, RuntimeSettings(threads=2)) as session:
        assert session.circumstances["threads"] == 2
        inputs = tiny.batch(3)
        np.testing.assert_allclose(session.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)


def test_bf16_is_executed_or_refused_but_never_ignored(case: SimpleNamespace) -> None:
    settings = RuntimeSettings(precision="bf16")
    if case.runtime != "openvino":
        with pytest.raises(HostError, match="can't be told to execute in 'bf16'"):
            case.place.open(case.model, case.runtime, settings)
        return
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(HostError, match="does not execute bf16"):
            case.place.open(case.model, case.runtime, settings)
        return
    with case.place.open(case.model, case.runtime, settings) as session:
        assert session.circumstances["precision"] == "bf16"
        inputs = tiny.batch(64)
        difference = np.abs(session.run(inputs)["logits"] - tiny.reference(inputs)["logits"]).max()
        assert 1e-5 < difference < 0.2  # bfloat16 keeps 8 bits


def test_unsaturated_changes_nothing_in_float(case: SimpleNamespace) -> None:
    with case.place.open(case.model, case.runtime, RuntimeSettings(precision="unsaturated")) as session:
        inputs = tiny.batch(3)
        np.testing.assert_allclose(session.run(inputs)["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)


def test_damaged_files_are_refused(case: SimpleNamespace, tmp_path: Path) -> None:
    whole = case.model.read_bytes()
    damaged = [whole[: len(whole) // 2]]
    if case.host != "fresh_process":  # what the runtime makes of a file does not depend on the process
        damaged += [b"", b"not a model\n", np.random.default_rng(0).bytes(5000), whole[:100]]
    path = tmp_path / case.model.name
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(SourceError, match=f"{path.name} in {case.runtime}: {path.name}: does not load"):
            case.place.open(path, case.runtime, RuntimeSettings())


def test_missing_files_are_named(case: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        case.place.open(tmp_path / "nowhere", case.runtime, RuntimeSettings())


def test_unknown_runtimes_and_precisions_are_named(case: SimpleNamespace) -> None:
    with pytest.raises(HostError, match="unknown runtime 'onnxrt'") as caught:
        case.place.open(case.model, "onnxrt", RuntimeSettings())
    assert "onnxruntime" in caught.value.hint
    with pytest.raises(HostError, match="can't be told to execute in 'f8'"):
        case.place.open(case.model, case.runtime, RuntimeSettings(precision="f8"))
    with pytest.raises(HostError, match="0 threads"):
        case.place.open(case.model, case.runtime, RuntimeSettings(threads=0))
