from __future__ import annotations

import pytest

from edgekit.core import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.EdgekitError, 4),
        (errors.RecipeError, 2),
        (errors.TargetError, 2),
        (errors.SourceError, 2),
        (errors.DataError, 2),
        (errors.ExportError, 2),
        (errors.QuantizationError, 2),
        (errors.OutputError, 2),
        (errors.BundleError, 2),
        (errors.SelfTestError, 1),
        (errors.DeviceError, 3),
        (errors.MissingPackageError, 3),
        (errors.HostError, 3),
    ],
)
def test_exit_codes(kind: type[errors.EdgekitError], code: int) -> None:
    assert kind("x").exit_code == code


def test_messages_are_one_line() -> None:
    problem = errors.SourceError("several\nlines  of\ttext", hint="two\nlines")
    assert problem.message == "several lines of text"
    assert problem.hint == "two lines"


def test_closest_names_the_nearest_or_lists_all() -> None:
    assert errors.closest("rasberry-pi-4", ["raspberry-pi-4", "x86-avx2"]) == "did you mean 'raspberry-pi-4'?"
    assert errors.closest("zzz", ["b", "a"]) == "known: a, b"
    assert errors.closest("zzz", []) == "nothing is known under that name"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.EdgekitError)]
    assert all(kind.__name__ in str(errors.__doc__) for kind in kinds)
