from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import Boxes
from edgekit.core.errors import DataError, RecipeError
from edgekit.core.plugin import Task
from edgekit.core.registry import create
from edgekit.tasks._heads import Cells, Grid, Pairs
from edgekit.tasks.object_detection import ObjectDetection

SIZE = 100.0


def some_pictures(n: int = 25, classes: int = 6) -> tuple[np.ndarray, np.ndarray, list[Boxes]]:
    """Boxes [N, 30, 4] and scores [N, 30, classes] that are partly right, with what is true."""
    rng = np.random.default_rng(0)
    boxes, scores, labels = np.zeros((n, 30, 4)), rng.uniform(0, 0.3, (n, 30, classes)), []
    for picture in range(n):
        low = rng.uniform(0, 0.6, (rng.integers(0, 9), 2))
        truth = np.concatenate([low, low + rng.uniform(0.1, 0.4, low.shape)], axis=1)
        kinds = rng.integers(0, classes - 1, len(truth))  # the last class is never there
        boxes[picture, :, :2] = rng.uniform(0, 0.6, (30, 2))
        boxes[picture, :, 2:] = boxes[picture, :, :2] + rng.uniform(0.1, 0.4, (30, 2))
        for place, (box, kind) in enumerate(zip(np.repeat(truth, 2, axis=0), np.repeat(kinds, 2), strict=True)):
            boxes[picture, place] = box + rng.normal(0, 0.012, 4)
            scores[picture, place, kind if rng.random() < 0.9 else 0] = rng.uniform(0.2, 1)
        labels.append(Boxes(truth, kinds))
    return boxes, scores, labels


def pair_task(**options: Any) -> ObjectDetection:
    head = {"kind": "pairs", "boxes": "boxes", "scores": "scores", "form": "xyxy", "classes": "none", "no_object": False}
    made = create(Task, {"use": "object_detection", "head": head, "overlap": None, **options}, "task")
    assert isinstance(made, ObjectDetection)
    return made


def of_pycocotools(boxes: np.ndarray, scores: np.ndarray, labels: list[Boxes]) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": i} for i in range(len(labels))], "categories": [{"id": k} for k in range(scores.shape[2])]}
        truth.dataset["annotations"] = [
            {"id": 1000 * i + j + 1, "image_id": i, "category_id": int(kind), "bbox": xywh(box), "area": 1.0, "iscrowd": 0}
            for i, label in enumerate(labels)
            for j, (box, kind) in enumerate(zip(label.corners, label.classes, strict=True))
        ]
        truth.createIndex()
        found = [
            {"image_id": i, "category_id": int(s.argmax()), "bbox": xywh(b), "score": float(s.max())}
            for i in range(len(labels))
            for b, s in zip(boxes[i], scores[i], strict=True)
        ]
        judged = cocoeval.COCOeval(truth, truth.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    ap, ap50, ap75, *_ = judged.stats
    return {"AP": 100 * ap, "AP50": 100 * ap50, "AP75": 100 * ap75, "AR100": 100 * judged.stats[8]}


def xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (SIZE * float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]


def test_average_precision_is_pycocotools() -> None:
    boxes, scores, labels = some_pictures()
    task = pair_task()
    found = task.metrics(task.observe({"boxes": boxes, "scores": scores}, labels, {}))
    assert found == pytest.approx(of_pycocotools(boxes, scores, labels), abs=1e-6)
    assert 20 < found["AP"] < found["AP50"] < 95


def test_figures_of_a_draw_are_the_metrics_of_its_pictures() -> None:
    boxes, scores, labels = some_pictures()
    task = pair_task()
    rows = task.observe({"boxes": boxes, "scores": scores}, labels, {})
    draw = task.figures(rows)
    counts = np.random.default_rng(1).integers(0, 4, len(rows))
    assert draw(counts).primary == pytest.approx(task.metrics(np.repeat(rows, counts, axis=0))["AP"])
    once = draw(np.ones(len(rows)))
    assert once.primary == pytest.approx(np.nanmean(once.classes))
    assert np.isnan(once.classes[-1])
    held = task.holds(rows)
    assert held is not None
    assert held.any(axis=0).tolist() == [True] * 5 + [False]


def grid_of(box: tuple[float, float, float, float], cell: tuple[int, int], kind: int) -> np.ndarray:
    """FastestDet's output [1, 8, 4, 5] with one box (centre and size) in one cell."""
    output = np.zeros((1, 8, 4, 5))
    row, column = cell
    cx, cy, w, h = box
    raw = [np.arctanh(cx * 5 - column), np.arctanh(cy * 4 - row), np.log(w / (1 - w)), np.log(h / (1 - h))]
    output[0, 0, row, column], output[0, 1:5, row, column], output[0, 5 + kind, row, column] = 0.9, raw, 0.8
    return output


def test_a_grid_is_decoded_as_fastestdet_does() -> None:
    boxes, scores = Grid().found({"output": grid_of((0.46, 0.3, 0.2, 0.1), (1, 2), 1)})
    place = 1 * 5 + 2
    np.testing.assert_allclose(boxes[0, place], [0.36, 0.25, 0.56, 0.35], atol=1e-12)
    np.testing.assert_allclose(scores[0, place], [0, 0.9**0.6 * 0.8**0.4, 0], atol=1e-12)


def test_cells_are_decoded_as_yolo_does() -> None:
    values = np.array([[[60.0, 30, 20, 40, 0.9, 0.2, 0.7]]])
    v5 = Cells(kind="cells", layout="channels_last", size=(100, 200), objectness=True)
    boxes, scores = v5.found({"output": values})
    np.testing.assert_allclose(boxes[0, 0], [0.25, 0.1, 0.35, 0.5])
    np.testing.assert_allclose(scores[0, 0], [0.18, 0.63])
    v8 = Cells(kind="cells", size=(100, 200), form="xyxy", classes="sigmoid")
    boxes, scores = v8.found({"output": np.array([[[50.0], [10], [70], [50], [0.0]]])})
    np.testing.assert_allclose(boxes[0, 0], [0.25, 0.1, 0.35, 0.5])
    assert scores[0, 0].tolist() == [0.5]


def test_pairs_are_decoded_as_detr_does() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, boxes = rng.normal(size=(2, 7, 4)), rng.uniform(0.2, 0.4, (2, 7, 4))
    found, scores = Pairs(kind="pairs").found({"logits": logits, "pred_boxes": boxes})
    np.testing.assert_allclose(scores, torch.from_numpy(logits).softmax(-1)[..., :-1].numpy())
    np.testing.assert_allclose(found[..., 2] - found[..., 0], boxes[..., 2])
    np.testing.assert_allclose((found[..., 1] + found[..., 3]) / 2, boxes[..., 1])


def test_doubles_cost_precision_unless_they_are_suppressed() -> None:
    truth = [Boxes(np.array([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]), np.array([0, 0]))]
    boxes = np.concatenate([np.repeat(truth[0].corners[:1], 5, axis=0), truth[0].corners[1:]])[None]
    outputs = {"boxes": boxes, "scores": np.linspace(0.9, 0.4, 6)[None, :, None]}
    kept, bare = (t.metrics(t.observe(outputs, truth, {}))["AP"] for t in (pair_task(overlap=0.5), pair_task()))
    assert kept == pytest.approx(100)
    assert bare < 70


def test_few_candidates_low_scores_and_few_detections_are_dropped() -> None:
    boxes, scores, labels = some_pictures()
    outputs = {"boxes": boxes, "scores": scores}

    def kept(**options: Any) -> list[int]:
        task = pair_task(**options)
        return [int((row[6:].reshape(-1, 3)[:, 0] >= 0).sum()) for row in task.observe(outputs, labels, {})]

    assert set(kept()) == {30}
    assert set(kept(candidates=7)) == set(kept(detections=7)) == {7}
    assert kept(confidence=0.5) == (scores.max(axis=2) >= 0.5).sum(axis=1).tolist()
    assert set(kept(labels_per_box=None, confidence=0, candidates=1000)) == {100}


def test_classes_of_the_model_may_be_others_than_the_sets() -> None:
    boxes, scores, labels = some_pictures(classes=6)
    straight = pair_task()
    turned = pair_task(class_indices=[5, -1, 4, 3, 2, 1, 0])
    shuffled = np.concatenate([scores[..., 5:], np.ones((*scores.shape[:2], 1)), scores[..., 4::-1]], axis=2)
    expected = straight.observe({"boxes": boxes, "scores": scores}, labels, {})
    np.testing.assert_array_equal(turned.observe({"boxes": boxes, "scores": shuffled}, labels, {}), expected)


def test_of_several_classes_that_are_one_in_the_set_the_surest_counts() -> None:
    task = pair_task(class_indices=[0, 0, 1])
    boxes, truth = np.array([[[0.1, 0.1, 0.5, 0.5]]]), [Boxes(np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([0]))]
    for scores in ([0.9, 0.0, 0.0], [0.0, 0.9, 0.0]):
        rows = task.observe({"boxes": boxes, "scores": np.array([[scores]])}, truth, {})
        assert task.metrics(rows)["AP"] == 100


def test_a_changed_decision_is_a_changed_class_of_a_sure_box() -> None:
    task = pair_task()
    truth = [Boxes(np.zeros((0, 4)), np.zeros(0, np.int64))]

    def decision(scores: list[list[float]]) -> int:
        return int(task.predictions(task.observe({"boxes": np.full((1, 2, 4), 0.5), "scores": np.array([scores])}, truth, {}))[0])

    assert decision([[0.9, 0], [0, 0.5]]) == decision([[0, 0.6], [0.51, 0]])
    assert decision([[0.9, 0], [0, 0.5]]) != decision([[0.9, 0], [0, 0.49]])


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ({"boxes": np.zeros((1, 3, 4)), "scores": np.zeros((1, 3, 2))}, [None], "has no boxes"),
        ({"boxes": np.zeros((1, 3, 4)), "scores": np.zeros((1, 3, 2))}, [Boxes(np.zeros((1, 4)), np.array([2]))], "beyond the model's 2"),
        ({"boxes": np.zeros((1, 3, 4)), "scores": np.zeros((1, 2, 2))}, [None], "don't belong together"),
        ({"boxes": np.full((1, 3, 4), np.nan), "scores": np.zeros((1, 3, 2))}, [None], "NaN"),
        ({"bocks": np.zeros((1, 3, 4)), "scores": np.zeros((1, 3, 2))}, [None], "no output 'boxes'"),
    ],
)
def test_outputs_and_labels_that_do_not_fit(outputs: dict[str, np.ndarray], labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        pair_task().observe(outputs, labels, {})


def test_a_head_of_another_kind_is_told_by_its_shape() -> None:
    with pytest.raises(DataError, match=r"is \[1, 3, 4\], this head gives \[N, 5 \+ classes, rows, columns\]"):
        ObjectDetection().observe({"output": np.zeros((1, 3, 4))}, [None], {})
    with pytest.raises(RecipeError, match="kind"):
        create(Task, {"use": "object_detection", "head": {"kind": "anchors"}}, "task")
