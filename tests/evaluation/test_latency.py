"""A race is fair, outlives a death, and its figures divide to its speedups."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.core.plugin import Host, RuntimeSettings
from edgekit.core.progress import Silent
from edgekit.core.recipe import Measuring
from edgekit.core.registry import create
from edgekit.evaluation import latency
from edgekit.evaluation.latency import Contestant, Timing, race, summarise

SAMPLE = {"x": np.zeros((1, 4), np.float32)}
QUICK = Measuring(rounds=4, round_seconds=0.005)


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch):
    monkeypatch.setattr(latency, "_BLOCK_SECONDS", 0.002)
    monkeypatch.setattr(latency, "_WARM_NANOSECONDS", 30_000_000)


@pytest.fixture
def contestant(tmp_path, numpy_host):
    def make(name: str, behaviour: str) -> Contestant:
        path = tmp_path / name
        path.write_text(behaviour, encoding="utf-8")
        return Contestant(name, path, "numpy", RuntimeSettings(), numpy_host)

    return make


def rounds_of(*milliseconds: float, calls: int = 40) -> tuple[tuple[int, ...], ...]:
    rng = np.random.default_rng(int(milliseconds[0] * 1000))
    return tuple(tuple((ms * 1e6 * rng.lognormal(0, 0.01, calls)).astype(int).tolist()) for ms in milliseconds)


def test_a_slower_model_measures_slower_by_as_much(contestant):
    found = race([contestant("float", "0.0020"), contestant("int8", "0.0005")], SAMPLE, QUICK, Silent())
    assert [len(t.rounds) for t in found.values()] == [4, 4]
    assert all(len(r) >= latency.CALLS_A_ROUND for t in found.values() for r in t.rounds)
    result = summarise(found["int8"], export=found["float"], original=None)
    assert result.p50.value == pytest.approx(0.5, rel=0.02)
    assert result.speedup_runtime.value == pytest.approx(4, rel=0.02)
    assert result.speedup_original is None
    assert result.warmup_runs > 0
    assert result.runs == sum(len(r) for r in found["int8"].rounds)


def test_rounds_are_interleaved_in_rotated_order(contestant, opened, monkeypatch):
    order = []
    session = type(contestant("x", "0").host.open(contestant("x", "0").model, "numpy", RuntimeSettings()))
    timed = session.time

    def noted(self, inputs, *, seconds, at_least):
        if at_least == latency.CALLS_A_ROUND:
            order.append(opened.index(self))
        return timed(self, inputs, seconds=seconds, at_least=at_least)

    monkeypatch.setattr(session, "time", noted)
    opened.clear()
    race([contestant(n, "0.0001") for n in "abc"], SAMPLE, Measuring(rounds=3, round_seconds=0.001), Silent())
    assert order == [0, 1, 2, 1, 2, 0, 2, 0, 1]


def test_one_that_dies_is_not_measured_and_the_others_are(contestant, opened):
    field = [contestant("good", "0.0002"), contestant("dying", "0.0002 dies 60"), contestant("absent", "broken")]
    found = race(field, SAMPLE, QUICK, Silent())
    assert len(found["good"].rounds) == 4
    assert (found["dying"].rounds, found["dying"].reason) == ((), "the process died")
    assert found["absent"].reason == "the runtime does not start"
    lost = summarise(found["dying"], export=found["good"], original=found["good"])
    assert (lost.basis, lost.reason, lost.p50) == ("not measured", "the process died", None)
    assert summarise(found["good"], export=found["dying"], original=found["absent"]).speedup_runtime is None
    assert all(session.closed for session in opened)


def test_too_many_to_keep_alive_still_race_in_every_round(contestant, opened):
    found = race([contestant(n, "0.0001") for n in "abc"], SAMPLE, QUICK, Silent(), alive=2)
    assert [len(t.rounds) for t in found.values()] == [4, 4, 4]
    assert len(opened) == 1 + 2 * (1 + 4)
    assert all(session.closed for session in opened)


def test_sessions_are_closed_when_the_race_is_broken_off(contestant, opened):
    class Stop(Silent):
        def advance(self, done, total, said=""):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race([contestant("a", "0.0001"), contestant("b", "0.0001")], SAMPLE, QUICK, Stop())
    assert [session.closed for session in opened] == [True, True]


def test_circumstances_tell_runtime_load_and_warm_up(contestant):
    found = race([contestant("a", "0.0001")], SAMPLE, QUICK, Silent())["a"].circumstances
    assert found["runtime"] == "numpy"
    assert found["threads"] == 1
    assert found["load_before"] >= 0
    assert found["load_after"] >= 0
    assert found["warm_up"] in ("stable", "stopped before it was stable")


def test_warm_up_ends_when_three_blocks_agree():
    assert not latency._stable([1.0, 1.0])
    assert latency._stable([9.0, 1.0, 1.04, 1.02])
    assert not latency._stable([1.0, 1.0, 1.1])


def test_timings_survive_the_disk(tmp_path):
    timing = Timing("a", rounds_of(1, 2, 3, calls=3), 7, {"threads": 1})
    timing.save(tmp_path / "t.json")
    assert Timing.load(tmp_path / "t.json") == timing
    json.loads((tmp_path / "t.json").read_text())


def test_p50s_divide_to_the_speedup():
    export = Timing("float", rounds_of(3.0, 3.3, 2.9, 3.1, 3.0))
    candidate = Timing("int8", rounds_of(1.0, 1.1, 0.95, 1.05, 1.0))
    a, b = (summarise(t, export=export, original=export) for t in (export, candidate))
    assert b.speedup_runtime.value == pytest.approx(a.p50.value / b.p50.value)
    assert b.speedup_runtime.low <= 3 <= b.speedup_runtime.high
    assert (a.speedup_runtime.value, a.speedup_runtime.low, a.speedup_runtime.high) == (1, 1, 1)
    assert b.p50.low < b.p50.value < b.p90.value < b.p99.value


def test_samples_for_plots_keep_the_extremes():
    rounds = (*rounds_of(1, 1, calls=900), (5_000_000,))
    found = summarise(Timing("a", rounds), export=None, original=None)
    assert len(found.samples_ms) == 400
    assert found.samples_ms[-1] == 5.0
    assert found.samples_ms[0] == min(min(r) for r in rounds) / 1e6
    assert np.median(found.samples_ms) == pytest.approx(1, rel=0.01)


def test_a_p99_of_few_calls_is_not_given_and_of_some_reaches_the_slowest():
    assert summarise(Timing("a", rounds_of(1, 1, 1, calls=5)), export=None, original=None).p99 is None
    some = summarise(Timing("a", rounds_of(1, 1, 1, calls=50)), export=None, original=None)
    assert some.p99.high == some.samples_ms[-1]


def test_noise_is_told():
    quiet = {"load_before": 1.2, "load_after": 1.0, "cores": 2}
    busy = {"load_before": 6.0, "load_after": 5.5, "cores": 2}
    even, uneven = rounds_of(1, 1.01, 1), rounds_of(1, 1.5, 1)
    calm = summarise(Timing("a", even, circumstances=quiet), export=None, original=None)
    assert "noise" not in calm.circumstances
    crowded = summarise(Timing("a", even, circumstances=busy), export=None, original=None)
    assert crowded.circumstances["noise"] == "the machine was not quiet: 5.5 processes wanted to run on 2 cores"
    uneven_rounds = summarise(Timing("a", uneven, circumstances=quiet), export=None, original=None)
    assert uneven_rounds.circumstances["noise"].startswith("the machine was not quiet: the rounds' medians differ by ")


def test_real_runtimes_race_in_fresh_processes(tmp_path):
    onnx = pytest.importorskip("onnx")
    host = create(Host, "fresh_process", "host")

    def chain(name: str, length: int) -> Contestant:
        h = onnx.helper
        steps = [h.make_node("MatMul", [f"x{i}" if i else "x", "w"], [f"x{i + 1}" if i + 1 < length else "y"]) for i in range(length)]
        ends = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 400]) for n in ("x", "y")]
        weights = onnx.numpy_helper.from_array(np.eye(400, dtype=np.float32), "w")
        graph = h.make_graph(steps, "chain", ends[:1], ends[1:], [weights])
        onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), tmp_path / f"{name}.onnx")
        return Contestant(name, tmp_path / f"{name}.onnx", "onnxruntime", RuntimeSettings(), host)

    (tmp_path / "torn.onnx").write_bytes(b"not a model")
    torn = Contestant("torn", tmp_path / "torn.onnx", "onnxruntime", RuntimeSettings(), host)
    sample = {"x": np.ones((16, 400), np.float32)}
    found = race([chain("long", 24), chain("short", 2), torn], sample, Measuring(rounds=5, round_seconds=0.02), Silent())
    short = summarise(found["short"], export=found["long"], original=found["long"])
    assert short.speedup_runtime.low > 2
    assert short.p50.value < summarise(found["long"], export=None, original=None).p50.value
    assert short.circumstances["runtime"] == "onnxruntime"
    assert short.circumstances["host"] == "fresh_process"
    assert "torn.onnx" in found["torn"].reason
