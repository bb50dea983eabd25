"""Memory of a model at work: the peak of a process that does nothing else."""

from __future__ import annotations

from edgekit.core.plugin import Session
from edgekit.core.report import Basis, Memory

MEGABYTE = 1_000_000


def peak(session: Session, *, basis: Basis = "measured") -> Memory:
    """Return the peak resident set of a session that ran its model a few times.

    Args:
        session: in a process of its own; the figure of this process would be no model's and is not given.
        basis: whether the machine is the target or like it.
    """
    if session.circumstances.get("host") == "in_process":
        return Memory(basis="not measured")
    before = session.circumstances.get("runtime_memory")
    return Memory(
        basis=basis,
        peak_mb=session.peak_memory() / MEGABYTE,
        runtime_mb=before / MEGABYTE if isinstance(before, int) else None,
    )
