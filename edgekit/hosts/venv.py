"""An environment of its own for a runtime that can't share edgekit's, such as tflite-runtime with its older NumPy."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgekit.core import environments
from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.hosts._process import RUNNER, ProcessSession


class Venv(Host):
    """Run each model in a new process of a virtual environment that is made once and kept in the store."""

    packages: tuple[str, ...] = Field(
        ("tflite-runtime==2.14.0", "numpy==1.26.4"), min_length=1, description="What pip installs there; pin the versions."
    )
    timeout: float = Field(600, gt=0, description="Seconds without an answer after which a process is given up.")

    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        """Make the environment if it is not there, start a process in it and load a model file.

        Raises:
            MissingPackageError: the environment can't be made, or lacks the runtime.
            HostError: the process can't be started or died.
            SourceError: the runtime can't load the model.
        """
        command = [str(self.interpreter()), str(RUNNER)]
        return ProcessSession(command, environments.environment(), model, runtime, settings, host="venv", timeout=self.timeout)

    def interpreter(self) -> Path:
        """Return the environment's Python, making the environment if it is not there.

        Raises:
            MissingPackageError: names the packages that can't be installed and what pip said.
            OutputError: the store can't be written.
        """
        return environments.interpreter(self.packages)
