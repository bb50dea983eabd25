"""The sets that come with edgekit: well described, and, where the data is, what they say they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.datasets import VOID, Boxes, DataSet, Mask
from edgekit.core.resources import bundled
from edgekit.data import check_disjoint, known_sets, load_spec, open_dataset
from edgekit.data._spec import DataSetSpec

FOLDER = bundled("calibration")
Shapes = dict[str, tuple[int, ...]]

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
CIFAR: Shapes = {"input": (3, 32, 32)}
PHOTO: Shapes = {"input": (3, 224, 224)}
EXPECTED: dict[str, tuple[int | None, int | None, int, Shapes]] = {
    "agnews": (300, 5000, 4, dict.fromkeys(TOKENS, (128,))),
    "cifar10-jpeg": (300, 5000, 10, CIFAR),
    "cifar10-lossless": (300, 500, 10, CIFAR),
    "cifar10-raw": (300, 500, 10, CIFAR),
    "coco-detection": (300, 128, 80, {"input": (3, 352, 352)}),
    "coco-masks": (300, 100, 21, {"input": (3, 384, 384)}),
    "coco-photos": (128, None, 0, PHOTO),
    "coco-photos-tf": (128, None, 0, PHOTO),
    "digits": (300, 597, 10, {"input": (1, 8, 8)}),
    "imagenet-samples": (None, 500, 1000, PHOTO),
    "imagenet-samples-tf": (None, 500, 1000, PHOTO),
    "kws": (300, 500, 12, {"input": (1, 49, 10)}),
    "spoken-digits": (300, 600, 10, {"input": (40, 98)}),
    "spoken-digits-speakers": (300, 300, 6, {"input": (40, 98)}),
    "sst2": (300, 872, 2, dict.fromkeys(TOKENS, (64,))),
    "trec": (300, 4452, 6, dict.fromkeys(TOKENS, (48,))),
    "vww": (300, 128, 2, {"input": (3, 96, 96)}),
}
"""Samples to calibrate and to evaluate on, classes, shape of a sample."""

FROM_THE_DATA_PACKS = {
    "cifar10-lossless": "cifar10/resnet20-12fca82f_ref.npz",
    "cifar10-raw": "mlperf_tiny/mlperftiny_resnet8_ref.npz",
    "imagenet-samples": "imagenet/mobilenetv1_x0.25_leaky_imagenet_ref.npz",
    "imagenet-samples-tf": "imagenet/mobilenetv2_1.0_224_dequant_fp32_ref.npz",
    "kws": "mlperf_tiny/mlperftiny_kws_dscnn_ref.npz",
    "vww": "mlperf_tiny/mlperftiny_vww_mbv1025_ref.npz",
}
"""Preprocessed inputs of the first samples, made by the checkpoints' own pipelines."""


def opened(name: str, role: Any, model: Path | None = None) -> DataSet:
    return open_dataset(name, role=role, base=Path(), model=model)


@pytest.fixture(scope="session")
def tokenizer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = (data / "text/bert_base_uncased_vocab.txt").read_text(encoding="utf-8").split("\n")
    BertTokenizer(vocab={word: i for i, word in enumerate(words) if word}).save_pretrained(folder)
    return folder


def test_every_set_is_expected_here() -> None:
    assert sorted(EXPECTED) == known_sets()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_set_says_what_it_is_and_whence(name: str) -> None:
    spec: DataSetSpec = load_spec(FOLDER / f"{name}.yaml")
    assert spec.title
    assert spec.description
    assert spec.origin.licence
    assert spec.origin.url.startswith("https://")
    assert spec.sha256
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in spec.sha256.values())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_file_of_every_split_has_its_sha256(name: str) -> None:
    spec = load_spec(FOLDER / f"{name}.yaml")
    for split in spec.splits or [None]:
        read = spec.select(split).read
        paths = read.get("path", [])
        for path in (
            ([paths] if isinstance(paths, str) else paths) if "path" in read else [*read["files"], read["function"].partition(":")[0]]
        ):
            assert Path(path).name in spec.sha256


def test_the_digits_need_no_download() -> None:
    calibration, evaluation = opened("digits", "calibration"), opened("digits", "evaluation")
    assert (len(calibration), len(evaluation), evaluation.classes[7]) == (300, 597, "7")
    batch, labels = next(evaluation.batches(597))
    assert (batch["input"].shape, batch["input"].dtype, batch["input"].min(), batch["input"].max()) == ((597, 1, 8, 8), np.float32, 0, 1)
    assert np.bincount(labels).tolist() == [59, 60, 59, 61, 60, 60, 60, 60, 58, 60]  # type: ignore[arg-type]
    check_disjoint(calibration, evaluation)


def ends(label: Any) -> tuple[int, int]:
    """Smallest and largest class of a label of any kind; pixels that don't count are no class."""
    if isinstance(label, Mask):
        return int(label.pixels.min()), int(label.pixels[label.pixels != VOID].max())
    return (int(label.classes.min()), int(label.classes.max())) if isinstance(label, Boxes) else (label, label)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_counts_and_shapes_are_as_described(name: str, data: Path, tokenizer: Path) -> None:
    *counts, classes, shapes = EXPECTED[name]
    for role, count in zip(("calibration", "evaluation"), counts, strict=True):
        if count is None:
            continue
        found = opened(name, role, tokenizer)
        batch, labels = next(found.batches(4))
        assert (len(found), len(found.classes)) == (count, classes)
        assert {key: value.shape[1:] for key, value in batch.items()} == shapes
        assert all(value.dtype == (np.int64 if key in TOKENS else np.float32) for key, value in batch.items())
        assert role == "calibration" or all(0 <= extreme < classes for label in labels for extreme in ends(label))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calibration", "evaluation"),
    [(name, name) for name, row in sorted(EXPECTED.items()) if row[0] and row[1]]
    + [("coco-photos", "imagenet-samples"), ("coco-photos-tf", "imagenet-samples-tf")],
)
def test_no_sample_calibrates_and_judges(calibration: str, evaluation: str, data: Path, tokenizer: Path) -> None:
    check_disjoint(opened(calibration, "calibration", tokenizer), opened(evaluation, "evaluation", tokenizer))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FROM_THE_DATA_PACKS))
def test_inputs_are_those_of_the_checkpoints_own_pipelines(name: str, data: Path) -> None:
    wanted = np.load(data / FROM_THE_DATA_PACKS[name])["input"]
    batch, _ = next(opened(name, "evaluation").batches(len(wanted)))
    tolerance = 2e-3 if wanted.dtype == np.float16 else 1e-5
    np.testing.assert_allclose(batch["input"], wanted.astype(np.float32), atol=tolerance)


@pytest.mark.slow
def test_spoken_digits_lie_on_the_keywords_scale(data: Path) -> None:
    """Digital silence is log(1e-6) in every band: its first coefficient is the smallest value the benchmark's int8 can hold."""
    digits = np.concatenate([batch["input"] for batch, _ in opened("kws", "calibration").batches(64)])
    words = np.concatenate([batch["input"] for batch, _ in opened("kws", "evaluation").batches(64)])
    assert digits.min() == words.min() == pytest.approx((-128 - 83) * 0.58470289)
    assert digits[:, 0, :, 0].max() == pytest.approx(words[:, 0, :, 0].max(), rel=0.15)
    loud = [values[:, 0].reshape(-1, 10)[values[:, 0, :, 0].ravel() > -60] for values in (digits, words)]
    np.testing.assert_allclose(loud[0].std(axis=0), loud[1].std(axis=0), rtol=0.4)
