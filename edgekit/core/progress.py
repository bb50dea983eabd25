"""How long work tells how far it has come, without knowing who listens."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Progress(ABC):
    """A listener to long work."""

    @abstractmethod
    def stage(self, name: str, *, cached: bool = False) -> None:
        """A stage begins, or its stored result is used."""

    @abstractmethod
    def advance(self, done: int, total: int, said: str = "") -> None:
        """Part of the current stage is done; ``said`` tells more of it in a few words (a loss, say)."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something the user should know now."""


class Silent(Progress):
    """Listens and says nothing."""

    def stage(self, name: str, *, cached: bool = False) -> None:
        """Ignore it."""

    def advance(self, done: int, total: int, said: str = "") -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
