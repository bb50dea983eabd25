"""Which output of one model is which of another: formats rename outputs, values can't be compared until they are paired."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.artifacts import Batch
from edgekit.core.errors import ExportError


def align(outputs: Batch, names: Sequence[str]) -> Batch:
    """Return outputs under the original's names and in its order: by name, or by position where a format gave all of them new names.

    Raises:
        ExportError: their number differs, or some names agree and others don't.
    """
    if set(outputs) == set(names):
        return {name: outputs[name] for name in names}
    if len(outputs) == len(names) and not set(outputs) & set(names):
        return dict(zip(names, outputs.values(), strict=True))
    raise ExportError(
        f"the model gives outputs ({', '.join(outputs)}), the original ({', '.join(names)})",
        hint="export all outputs in the original's order, under its names",
    )
