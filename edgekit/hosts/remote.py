"""The runner behind any command that reaches it: on a board over SSH, under an emulator, in a container."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.hosts._process import ProcessSession


class Remote(Host):
    """Run each model in a new process that a command starts elsewhere; model paths are those of the other side."""

    command: tuple[str, ...] = Field(min_length=1, description="What starts the runner with its input and output here.")
    timeout: float = Field(600, gt=0, description="Seconds without an answer after which a process is given up.")

    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        """Start the command and load a model file that lies on the other side.

        Raises:
            HostError: the command can't be started or died.
            MissingPackageError: the runtime is not installed there.
            SourceError: the runtime can't load the model.
        """
        return ProcessSession(self.command, os.environ, model, runtime, settings, host="remote", timeout=self.timeout)
