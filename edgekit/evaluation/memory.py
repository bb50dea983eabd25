"""Memory of a model at work: the peak of a process that does nothing else."""

from __future__ import annotations

from edgekit.core.plugin import Session
from edgekit.core.report import Basis, Memory

MEGABYTE = 1_000_000


def peak(session: Session, *, basis: Basis = "measured") -> Memory:
    """Return the peak resident set of a session that ran its model a few times.

    Args:
        session: in a fresh process of its own; in this process, the figure would be this process's.
        basis: whether the machine is the target or like it.
    """
    before = session.circumstances.get("runtime_memory")
    return Memory(
        basis=basis,
        peak_mb=session.peak_memory() / MEGABYTE,
        runtime_mb=before / MEGABYTE if isinstance(before, int) else None,
    )
