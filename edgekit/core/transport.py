"""The contract of the slot ``transports``: what a way to a device has to do."""

from __future__ import annotations

from abc import abstractmethod
from urllib.parse import SplitResult

from edgekit.core.plugin import Plugin


class Transport(Plugin):
    """Slot ``transports``: a way to the folder that holds a device's models; the file's name is the scheme of its URLs.

    All that a way has to do is to run a shell script over there with its input and output here: the agent does the rest.

    Attributes:
        folder: the folder, as the device names it.
        python: the interpreter there that has the runtimes.
    """

    folder: str
    python: str

    @classmethod
    @abstractmethod
    def of_url(cls, url: SplitResult) -> Transport:
        """Read a URL.

        Raises:
            TargetError: it lacks something.
        """

    @abstractmethod
    def shell(self, script: str) -> list[str]:
        """Return the command that runs a POSIX shell script on the device."""

    @abstractmethod
    def explain(self, said: str) -> tuple[str, str]:
        """Turn what a broken connection wrote on standard error into what is wrong and what to do about it."""
