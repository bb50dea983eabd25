"""The one error tree: what a user can cause ends as one line that says what is wrong and what to do.

::

    EdgekitError                 exit 4   edgekit itself is wrong
    ├── SelfTestError    exit 1   a model that is not good enough on a device
    ├── InputError               exit 2   what was handed in is wrong
    │   ├── RecipeError                   a recipe, an option or a plugin name
    │   ├── TargetError                   a target that does not exist or can't do what is asked
    │   ├── SourceError                   a checkpoint, an architecture or a model file
    │   ├── DataError                     a calibration or evaluation set
    │   ├── ExportError                   a model that the wanted format can't carry
    │   ├── QuantizationError             a setting that a quantizer can't honour
    │   ├── BundleError                   a bundle, key or root that is not what it should be, or that a device refuses
    │   └── OutputError                   a place that can't be written
    └── SetupError       exit 3   the machine lacks something that ``edgekit doctor`` names
        ├── MissingPackageError
        ├── DeviceError                   a device that can't be reached or does not answer
        └── HostError                     a process that should run a model could not
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class EdgekitError(Exception):
    """Base of every error that edgekit raises on purpose.

    Attributes:
        message: what is wrong and where, one line.
        hint: what to type next; empty when there is nothing useful to say.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class SelfTestError(EdgekitError):
    """A bundle is sound, and its model is not good enough on the device: a gate failed."""

    exit_code = 1


class InputError(EdgekitError):
    """What was handed in is wrong."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe, an option or a plugin name is wrong."""


class TargetError(InputError):
    """A target does not exist or can't do what is asked of it."""


class SourceError(InputError):
    """A checkpoint, an architecture or a model file can't be used."""


class DataError(InputError):
    """A calibration or evaluation set can't be used."""


class ExportError(InputError):
    """The wanted format can't carry this model, or carried it wrongly."""


class QuantizationError(InputError):
    """A quantizer can't honour what is asked of it."""


class BundleError(InputError):
    """A bundle, a key or a root is not what it should be, or a device refuses it."""


class OutputError(InputError):
    """A place can't be written."""


class SetupError(EdgekitError):
    """The machine lacks something that ``edgekit doctor`` names."""

    exit_code = 3


class MissingPackageError(SetupError):
    """A package that this step needs is not installed or does not import."""


class DeviceError(SetupError):
    """A device can't be reached, or does not answer as one."""


class HostError(SetupError):
    """A process that should run a model could not be started or died."""


def closest(wanted: str, known: Iterable[str]) -> str:
    """Return a phrase that names the known word nearest to a mistyped one, or lists the known words."""
    words = sorted(known)
    near = difflib.get_close_matches(wanted, words, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if not words:
        return "nothing is known under that name"
    shown = ", ".join(words[:12])
    return f"known: {shown}" + (", ..." if len(words) > 12 else "")
