"""The one exception of the agent: why something is not done, in one line, and what to do about it."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - what happened, as users read it
    """Why the agent does not do what it is asked.

    Attributes:
        kind: ``format`` (malformed), ``signature``, ``expired``, ``downgrade``, ``target``, ``space``, ``unsafe`` (the device's own
            folders), ``selftest``, ``state`` (nothing there to act on), ``busy`` or ``internal``.
        message: what is wrong, one line.
        hint: what to do about it; may be empty.
    """

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = " ".join(message.split())
        self.hint = hint
