"""Observing keeps what judging needs; judging pairs every sample with the original's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from edgekit.core.datasets import Boxes
from edgekit.core.errors import DataError, ExportError, QuantizationError, SourceError
from edgekit.core.plugin import Host, RuntimeSettings, Session, Task
from edgekit.core.progress import Progress, Silent
from edgekit.core.registry import create
from edgekit.evaluation.accuracy import judge, observe, output_file, output_names

CLASSES = ("cat", "dog", "cow", "owl")


class Counting(Progress):
    """Remembers how far it was told the work has come."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def stage(self, name: str, *, cached: bool = False) -> None: ...

    def advance(self, done: int, total: int, said: str = "") -> None:
        self.seen.append((done, total))

    def note(self, text: str) -> None: ...


@pytest.fixture
def task() -> Task:
    return create(Task, "image_classification", "task")


@pytest.fixture
def watched(tmp_path, arrays, numpy_session, task):
    """Observe models that answer with given scores: original first, then candidates; returns their folders and the set."""

    def watch(labels, *scores, metadata=None, classes=CLASSES, by=task, batch=7):
        data = arrays(np.arange(len(labels), dtype=np.float32)[:, None], labels, classes=classes, metadata=metadata)
        folders = []
        for number, table in enumerate(scores):
            out = tmp_path / f"model{number}"
            session = numpy_session(lambda x, t=table: {"logits": t[x[:, 0].astype(int)]})
            original = folders[0] if folders else None
            observe(session, data, by, out, original=original, progress=Silent(), batch=batch)
            folders.append(out)
        return data, folders

    return watch


def one_hot(predictions, classes=4) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[np.asarray(predictions)]


def test_observing_keeps_observations_outputs_and_circumstances(watched):
    labels = [0, 1, 2, 3, 0]
    table = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    data, (folder,) = watched(labels, table)
    assert np.array_equal(np.load(folder / "outputs" / "logits.npy"), table)
    assert np.load(folder / "observations.npy")[:, 1].tolist() == table.argmax(axis=1).tolist()
    about = json.loads((folder / "circumstances.json").read_text())
    assert about["circumstances"] == {"runtime": "numpy", "threads": 1}
    assert (about["samples"], about["outputs"], about["data"]) == (5, ["logits"], data.digest)


def test_progress_counts_samples(tmp_path, arrays, numpy_session, task):
    told = Counting()
    data = arrays(np.zeros((5, 1), np.float32), [0] * 5)
    observe(numpy_session(lambda x: {"y": one_hot([0] * len(x))}), data, task, tmp_path, original=None, progress=told, batch=2)
    assert told.seen == [(2, 5), (4, 5), (5, 5)]


def test_outputs_under_new_names_are_paired_by_position(tmp_path, arrays, numpy_session):
    task = create(Task, "generic", "task")
    data = arrays(np.arange(6, dtype=np.float32)[:, None] + 1)
    observe(numpy_session(lambda x: {"boxes": x, "scores/0:1": -x}), data, task, tmp_path / "a", original=None, progress=Silent())
    observe(
        numpy_session(lambda x: {"output_0": x, "output_1": -x}), data, task, tmp_path / "b", original=tmp_path / "a", progress=Silent()
    )
    assert output_names(tmp_path / "b") == ["boxes", "scores/0:1"]
    assert np.load(output_file(tmp_path / "b", "scores/0:1"))[:, 0].tolist() == [-1, -2, -3, -4, -5, -6]
    with pytest.raises(ExportError, match=r"gives outputs \(boxes\), the original \(boxes, scores/0:1\)"):
        observe(numpy_session(lambda x: {"boxes": x}), data, task, tmp_path / "c", original=tmp_path / "a", progress=Silent())
    with pytest.raises(ExportError, match="gives outputs"):
        observe(numpy_session(lambda x: {"scores/0:1": x, "z": x}), data, task, tmp_path / "c", original=tmp_path / "a", progress=Silent())


def test_the_task_sees_the_originals_outputs_on_the_same_samples(watched):
    task = create(Task, "generic", "task")
    table = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    _, (first, second) = watched([None] * 20, table, -table, by=task, batch=3)
    assert np.load(first / "observations.npy")[:, 0] == pytest.approx(100)
    assert np.load(second / "observations.npy")[:, 0] == pytest.approx(-100)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "nan"), (np.inf, "inf")])
def test_numbers_that_are_not_finite_are_an_error_that_names_the_place(watched, bad, word):
    good = one_hot([0] * 9)
    broken = good.copy()
    broken[8, 2] = bad
    with pytest.raises(SourceError, match=rf"output 'logits' is {word} at sample 8, index \[2\]"):
        watched([0] * 9, broken, batch=4)
    with pytest.raises(QuantizationError, match="sample 8"):
        watched([0] * 9, good, broken, batch=4)


def test_outputs_that_vary_in_shape_are_refused(tmp_path, arrays, numpy_session):
    data = arrays(np.arange(4, dtype=np.float32)[:, None])
    generic = create(Task, "generic", "task")
    for number, growing in enumerate((lambda x: np.zeros((1, 2 + int(x[0, 0]))), lambda x: np.zeros((2, 3)), lambda x: np.zeros(()))):
        with pytest.raises(DataError, match="varying outputs can't be compared"):
            observe(
                numpy_session(lambda x, g=growing: {"boxes": g(x)}),
                data,
                generic,
                tmp_path / str(number),
                original=None,
                progress=Silent(),
            )


def test_outputs_of_another_shape_than_the_originals_are_refused(watched):
    task = create(Task, "generic", "task")
    table = np.ones((6, 4), np.float32)
    with pytest.raises(ExportError, match=r"'logits' has shape \[2, 2\] a sample, the original's has \[4\]"):
        watched([None] * 6, table, table.reshape(6, 2, 2), by=task)


def test_half_precision_is_kept_as_float32_and_integers_as_they_are(tmp_path, arrays, numpy_session):
    data = arrays(np.arange(4, dtype=np.float32)[:, None])
    model = numpy_session(lambda x: {"half": x.astype(np.float16), "whole": x.astype(np.int64)})
    observe(model, data, create(Task, "generic", "task"), tmp_path, original=None, progress=Silent())
    assert np.load(tmp_path / "outputs" / "half.npy").dtype == np.float32
    assert np.load(tmp_path / "outputs" / "whole.npy").dtype == np.int64


def test_a_set_shorter_than_promised_is_an_error(tmp_path, arrays, numpy_session, task):
    data = arrays(np.zeros((3, 1), np.float32), [0, 0, 0], promised=5)
    with pytest.raises(DataError, match="promises 5 samples and gives 3"):
        observe(numpy_session(lambda x: {"y": one_hot([0] * len(x))}), data, task, tmp_path, original=None, progress=Silent())


def test_models_observed_on_different_sets_are_not_compared(watched, tmp_path, arrays, numpy_session, task):
    data, (folder,) = watched([0, 1, 2], one_hot([0, 1, 2]))
    other = arrays(np.zeros((3, 1), np.float32), [0, 0, 0])
    model = numpy_session(lambda x: {"logits": one_hot([0] * len(x))})
    with pytest.raises(DataError, match="observed on another set"):
        observe(model, other, task, tmp_path / "b", original=folder, progress=Silent())
    observe(model, other, task, tmp_path / "b", original=None, progress=Silent())
    with pytest.raises(DataError, match="same samples"):
        judge(task, folder, tmp_path / "b", data)


def test_the_change_is_paired_and_mcnemar_counts_the_discordant(watched, task):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    before = np.where(rng.random(400) < 0.9, labels, (labels + 1) % 4)
    after = before.copy()
    right = np.flatnonzero(before == labels)
    wrong = np.flatnonzero(before != labels)
    after[right[:12]] = (labels[right[:12]] + 2) % 4
    after[wrong[:4]] = labels[wrong[:4]]
    after[wrong[4:7]] = (labels[wrong[4:7]] + 2) % 4
    data, (first, second) = watched(labels.tolist(), one_hot(before), one_hot(after))
    found = judge(task, first, second, data)
    assert found.samples == 400
    assert found.primary == "top1"
    assert found.metrics["top1"] == pytest.approx(100 * np.mean(after == labels))
    assert found.change.value == pytest.approx(100 * (4 - 12) / 400)
    assert found.change.low < -2 < found.change.high < 0.3
    independent = 1.96 * 100 * np.sqrt(2 * 0.9 * 0.1 / 400)
    assert found.change.high - found.change.low < independent, "pairing must narrow the interval"
    assert found.p_value == pytest.approx(stats.binomtest(4, 16).pvalue)
    assert found.changed == pytest.approx(100 * 19 / 400)
    assert found.circumstances == {"runtime": "numpy", "threads": 1}


def test_a_class_that_dies_is_significant_and_carries_its_name(watched, task):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(4), 50))
    after = labels.copy()
    after[labels == 2] = 0
    after[rng.choice(np.flatnonzero(labels != 2), 4, replace=False)] = 2
    data, (first, second) = watched(labels.tolist(), one_hot(labels), one_hot(after))
    table = {c.name: c for c in judge(task, first, second, data).per_class}
    assert list(table) == list(CLASSES)
    assert (table["cow"].original, table["cow"].candidate, table["cow"].change, table["cow"].samples) == (100, 0, -100, 50)
    assert table["cow"].significant
    assert table["cow"].high < -85
    assert [n for n, c in table.items() if c.significant] == ["cow"]
    assert table["dog"].low < table["dog"].change < table["dog"].high


def test_significance_is_corrected_for_the_number_of_classes(watched, task):
    labels = np.repeat(np.arange(40), 8)
    after = labels.copy()
    after[:6] = 1
    classes = tuple(f"class {i}" for i in range(40))
    data, (first, second) = watched(labels.tolist(), one_hot(labels, 40), one_hot(after, 40), classes=classes)
    worst = judge(task, first, second, data).per_class[0]
    assert stats.binomtest(6, 6).pvalue < 0.05 < stats.binomtest(6, 6).pvalue * 40
    assert worst.change == -75
    assert not worst.significant


def test_classes_without_names_are_numbered(watched, task):
    data, (first,) = watched([0, 3, 3], one_hot([0, 3, 3]), classes=("only",))
    assert [c.name for c in judge(task, first, first, data).per_class] == ["only", "3"]


def test_metadata_columns_with_some_values_become_slices(watched, task):
    labels = [0, 1] * 30
    metadata = [{"light": "day" if i < 40 else "night", "file": f"{i}.png", "kind": "photo"} for i in range(60)]
    metadata[0].pop("light")
    after = np.array(labels)
    after[40:] = 3
    data, (first, second) = watched(labels, one_hot(labels), one_hot(after), metadata=metadata)
    slices = judge(task, first, second, data).per_slice
    assert list(slices) == ["light"]
    assert [(s.name, s.samples, s.change, s.significant) for s in slices["light"]] == [
        ("", 1, 0.0, False),
        ("day", 39, 0.0, False),
        ("night", 20, -100.0, True),
    ]


def test_the_original_against_itself_changes_nothing_for_certain(watched, task):
    data, (first,) = watched([0, 1, 2, 3], one_hot([0, 1, 2, 0]))
    found = judge(task, first, first, data)
    assert (found.change.value, found.change.low, found.change.high, found.p_value, found.changed) == (0, 0, 0, 1, 0)


def test_an_equal_candidate_is_not_certain_to_be_equal(watched, task):
    table = one_hot([0, 1, 2, 0] * 25)
    data, (first, second) = watched([0, 1, 2, 3] * 25, table, table)
    change = judge(task, first, second, data).change
    assert change.value == 0
    assert change.low < -1.5
    assert change.high > 1.5


def test_a_metric_that_is_no_mean_is_resampled_as_it_is(watched):
    from sklearn.metrics import f1_score

    class F1(type(create(Task, "text_classification", "task"))):
        primary = "f1"

    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200)
    before = np.where(rng.random(200) < 0.9, labels, 1 - labels)
    after = np.where(rng.random(200) < 0.8, labels, 1 - labels)
    data, (first, second) = watched(labels.tolist(), one_hot(before, 2), one_hot(after, 2), by=F1(), classes=("bad", "good"))
    found = judge(F1(), first, second, data, resamples=800)
    assert found.change.value == pytest.approx(100 * (f1_score(labels, after) - f1_score(labels, before)))
    draws = [rng.integers(0, 200, 200) for _ in range(800)]

    def f1(truth, said):
        return 200 * np.sum(truth & said) / (np.sum(truth) + np.sum(said))

    changes = [f1(labels[i], after[i]) - f1(labels[i], before[i]) for i in draws]
    assert (found.change.low, found.change.high) == pytest.approx(np.quantile(changes, [0.025, 0.975]), abs=1.0)


def test_classes_that_share_samples_are_compared_by_resampling_whole_samples(tmp_path, arrays, numpy_session):
    task = create(Task, {"use": "object_detection", "overlap": None, "confidence": 0.5}, "task")
    outputs = np.full((60, 8, 2, 2), 0.01, np.float32)  # one object a picture, of the first class or the second
    outputs[:, 1:5] = 0
    kinds = np.arange(60) % 2
    outputs[np.arange(60), 0, 0, 0], outputs[np.arange(60), 5 + kinds, 0, 0] = 0.9, 0.9
    broken = outputs.copy()
    broken[1:41:2, 0, 0, 0] = 0  # 20 of 30 objects of the second class are lost
    labels = [Boxes(np.array([[-0.25, -0.25, 0.25, 0.25]]), np.array([kind])) for kind in kinds]
    data = arrays(np.arange(60, dtype=np.float32)[:, None], labels, classes=("cup", "fork", "spoon"))
    for name, table in (("a", outputs), ("b", broken)):
        session = numpy_session(lambda x, t=table: {"head": t[x[:, 0].astype(int)]})
        observe(session, data, task, tmp_path / name, original=tmp_path / "a" if name == "b" else None, progress=Silent())
    found = judge(task, tmp_path / "a", tmp_path / "b", data, resamples=400)
    cup, fork = found.per_class
    assert (cup.name, cup.samples, cup.change, cup.low, cup.high, cup.significant) == ("cup", 30, 0, 0, 0, False)
    assert (fork.name, fork.original, fork.significant) == ("fork", pytest.approx(100), True)
    assert fork.candidate == pytest.approx(100 * 34 / 101)
    assert fork.low < fork.change < fork.high < -30
    assert found.change.value == pytest.approx(fork.change / 2)
    assert found.p_value is None
    same = judge(task, tmp_path / "a", tmp_path / "a", data)
    assert [(c.change, c.low, c.high, c.significant) for c in same.per_class] == [(0, 0, 0, False)] * 2


def test_a_task_without_right_and_wrong_has_no_p_value_but_slices(watched):
    task = create(Task, "generic", "task")
    rng = np.random.default_rng(3)
    table = rng.normal(size=(120, 4)).astype(np.float32)
    after = table + np.where(np.arange(120) < 60, 0.01, 0.8)[:, None].astype(np.float32) * rng.normal(size=(120, 4)).astype(np.float32)
    metadata = [{"half": "first" if i < 60 else "second"} for i in range(120)]
    data, (first, second) = watched([None] * 120, table, after, by=task, metadata=metadata)
    found = judge(task, first, second, data)
    assert found.p_value is None
    assert found.per_class == ()
    assert found.change.value == pytest.approx(found.metrics["cosine"] - 100)
    assert found.change.low < found.change.value < found.change.high < 0
    calm, noisy = found.per_slice["half"]
    assert calm.change == pytest.approx(0, abs=0.1)
    assert noisy.change < -10
    assert noisy.significant


def test_real_onnxruntime_sessions_are_observed(tmp_path, arrays, task):
    onnx = pytest.importorskip("onnx")

    def linear(weights: np.ndarray) -> Session:
        h = onnx.helper
        graph = h.make_graph(
            [h.make_node("MatMul", ["x", "w"], ["logits"])],
            "linear",
            [h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 6])],
            [h.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 4])],
            [onnx.numpy_helper.from_array(weights, "w")],
        )
        onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), tmp_path / "model.onnx")
        return create(Host, "in_process", "host").open(tmp_path / "model.onnx", "onnxruntime", RuntimeSettings())

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 4)).astype(np.float32)
    inputs = rng.normal(size=(300, 6)).astype(np.float32)
    data = arrays(inputs, (inputs @ weights).argmax(axis=1).tolist(), classes=CLASSES)
    rounded = np.round(weights).astype(np.float32)
    observe(linear(weights), data, task, tmp_path / "a", original=None, progress=Silent(), batch=16)
    observe(linear(rounded), data, task, tmp_path / "b", original=tmp_path / "a", progress=Silent())
    found = judge(task, tmp_path / "a", tmp_path / "b", data)
    expected = 100 * np.mean((inputs @ rounded).argmax(axis=1) == np.array(data.labels))
    assert found.metrics["top1"] == pytest.approx(expected)
    assert found.change.value == pytest.approx(expected - 100)
    assert found.change.high < 0
    assert found.circumstances["runtime"] == "onnxruntime"
