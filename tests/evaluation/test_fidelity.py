"""A sound export passes; a wrong one is refused with the place and what it looks like."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import ExportError
from edgekit.evaluation.fidelity import TOLERANCES, verify


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return [({"x": (x := rng.normal(size=(n, 8)).astype(np.float32))}, {"y": np.tanh(x) * 5}) for n in (1, 3, 2)]


def session(numpy_session, change, name="y"):
    return numpy_session(lambda x: {name: change(np.tanh(x) * 5)})


def test_a_sound_export_reports_how_close_it_is(numpy_session, pairs):
    found = verify(session(numpy_session, lambda y: (y + 2e-6).astype(np.float32), name="output_0"), pairs)
    assert found.samples == 6
    assert found.output == "y"
    assert found.max_absolute == pytest.approx(2e-6, rel=0.3)
    assert 0 < found.max_relative < 1e-5


def test_a_wrong_value_is_named_with_its_place_and_both_values(numpy_session, pairs):
    def bend(y):
        if len(y) == 3:
            y[1, 4] += 0.5
            y[2, 0] += 0.1
        return y

    wrong = float(pairs[1][1]["y"][1, 4])
    with pytest.raises(ExportError) as caught:
        verify(session(numpy_session, bend), pairs)
    assert "output 'y', sample 2, index [4]: " in caught.value.message
    assert f"{wrong + 0.5:.6g} instead of {wrong:.6g}" in caught.value.message
    assert "2 of 24 elements" in caught.value.message


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (lambda y: y.T, "has shape (8, 1), the original's (1, 8)", "layout"),
        (lambda y: y[:, :5], "has shape (1, 5)", "axis"),
        (lambda y: y.astype(np.int32), "is int32, the original's is float32".replace("is float32", "float32"), "cast"),
        (lambda y: y * np.float32(np.nan), "nan instead of", "overflows"),
        (lambda y: y * 1.01, "instead of", "epsilon"),
        (lambda y: np.roll(y, 1, axis=1), "8 of 8 elements", "layout"),
    ],
)
def test_the_hint_says_what_the_difference_looks_like(numpy_session, pairs, change, message, hint):
    with pytest.raises(ExportError) as caught:
        verify(session(numpy_session, change), pairs)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_baked_in_batch_is_recognised(numpy_session, pairs):
    with pytest.raises(ExportError) as caught:
        verify(session(numpy_session, lambda y: np.repeat(y[:1], len(y), axis=0)), pairs)
    assert "batch" in caught.value.hint


def test_a_small_output_is_judged_by_its_own_size(numpy_session):
    x = np.linspace(1, 2, 10, dtype=np.float32)[None] * 0.05
    with pytest.raises(ExportError):
        verify(numpy_session(lambda x: {"y": x * 1.001}), [({"x": x}, {"y": x})])


def test_scores_beside_large_boxes_are_judged_more_strictly_than_boxes(numpy_session):
    x = np.concatenate([np.full((4, 4), 300.0), np.full((4, 80), 0.5)], axis=1).astype(np.float32)
    off = x + 0.01
    off[:, 4:] = x[:, 4:]
    assert verify(numpy_session(lambda _: {"y": off}), [({"x": x}, {"y": x})]).max_absolute == pytest.approx(0.01, rel=0.1)
    off = x.copy()
    off[0, 60] += 0.05
    with pytest.raises(ExportError, match=r"sample 0, index \[60\]"):
        verify(numpy_session(lambda _: {"y": off}), [({"x": x}, {"y": x})])


def test_a_large_channel_of_a_map_is_judged_by_its_own_size_and_a_small_one_is_not(numpy_session):
    sizes = np.array([10.0, 0.01, 0.01, 0.01] * 8)[None, :, None, None]
    y = np.random.default_rng(2).normal(size=(2, 32, 3, 3)) * sizes  # root mean square 5
    original = [({"x": np.zeros((2, 1), np.float32)}, {"y": y})]

    def moved(channel, by):
        changed = y.copy()
        changed[0, channel, 1, 1] += by
        return numpy_session(lambda x: {"y": changed})

    verify(moved(0, 7e-4), original)
    verify(moved(1, 3e-4), original)
    for channel in (0, 1):
        with pytest.raises(ExportError):
            verify(moved(channel, 3e-3), original)
    with pytest.raises(ExportError):
        verify(moved(1, 7e-4), original)


def test_integers_must_be_equal_whatever_their_width(numpy_session):
    x = np.array([[3, 900]], np.int64)
    assert verify(numpy_session(lambda x: {"y": x.astype(np.int32)}), [({"x": x}, {"y": x})]).max_absolute == 0
    with pytest.raises(ExportError, match="901 instead of 900"):
        verify(numpy_session(lambda x: {"y": x + np.array([0, 1])}), [({"x": x}, {"y": x})])


def test_equal_infinities_agree_and_others_do_not(numpy_session):
    x = np.array([[1.0, -np.inf]], np.float32)
    assert verify(numpy_session(lambda x: {"y": x}), [({"x": x}, {"y": x})]).max_absolute == 0
    with pytest.raises(ExportError, match="-1e\\+09 instead of -inf"):
        verify(numpy_session(lambda x: {"y": np.array([[1.0, -1e9]], np.float32)}), [({"x": x}, {"y": x})])


def test_an_original_that_gives_nan_is_the_originals_fault(numpy_session):
    x = np.array([[1.0, np.nan]], np.float32)
    with pytest.raises(ExportError, match="the original's output 'y' is nan at sample 0"):
        verify(numpy_session(lambda x: {"y": x}), [({"x": x}, {"y": x})])


def test_half_precision_passes_with_its_own_tolerance_only(numpy_session, pairs):
    half = session(numpy_session, lambda y: y.astype(np.float16))
    absolute, relative = TOLERANCES["fp16"]
    assert verify(half, pairs, absolute=absolute, relative=relative).max_relative > 1e-5
    with pytest.raises(ExportError):
        verify(half, pairs)
