"""What the sources of model libraries share: a model by its name, with weights of the user's or of the library's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekit.core import digest
from edgekit.core.errors import SourceError
from edgekit.core.factories import RAISED, described
from edgekit.core.store import package_version
from edgekit.core.weights import load_into

if TYPE_CHECKING:
    import torch


class Maker(Protocol):
    """Makes a library's model."""

    def __call__(self, name: str, arguments: dict[str, Any], *, pretrained: bool) -> torch.nn.Module: ...


def fingerprint(library: str, weights: Path | None) -> dict[str, str]:
    """Version of the library, and the digest of the weights where a file is named.

    Raises:
        SourceError: no such file.
    """
    if weights is None:
        return {"library": package_version(library)}
    if not weights.is_file():
        raise SourceError(f"{weights}: no such file", hint="give the path of a state dict")
    return {"library": package_version(library), "weights": digest.of_file(weights)}


def made(make: Maker, name: str, arguments: dict[str, Any], weights: Path | None) -> tuple[torch.nn.Module, list[str]]:
    """Make a model and load its weights; return it with what loading noticed.

    Raises:
        SourceError: the library has no such model, or its weights can't be fetched.
    """
    try:
        module = make(name, arguments, pretrained=weights is None)
    except RAISED as problem:
        hint = "check the name; without a network, name a state dict: 'weights: FILE'"
        raise SourceError(f"{name}: can't be made ({described(problem)})", hint=hint) from problem
    return module, load_into(module, weights) if weights else ["weights of the library's own"]
