"""What stages write into their keys, and what they say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.core import digest
from edgekit.core.store import code_digest
from edgekit.sessions import runtime_packages

if TYPE_CHECKING:
    from edgekit.core.artifacts import Artifact
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Plugin, RuntimeSettings


def packages(*runtimes: str) -> tuple[str, ...]:
    """Distributions whose versions decide what runtimes compute."""
    return tuple(sorted({name for runtime in runtimes for name in runtime_packages(runtime)}))


def about(model: Artifact, runtime: str, settings: RuntimeSettings) -> str:
    """A model in a runtime, in a few words."""
    precision = "bf16" if settings.precision == "bf16" else model.precision
    return f"{precision} in {runtime}"


def options_of(plugin: Plugin) -> dict[str, Any]:
    """A plugin's options as plain data."""
    return plugin.model_dump(mode="json")


def digest_of(data: DataSet | None) -> str:
    """Digest of a set's content and of the code that reads and preprocesses it."""
    return digest.of_json([data.digest, code_digest("data")]) if data else ""
