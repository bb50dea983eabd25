"""A clean process of this interpreter for each model: what latency and memory have to be measured in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import Field

from edgekit.core.plugin import Host, RuntimeSettings, Session
from edgekit.hosts._process import RUNNER, ProcessSession


class FreshProcess(Host):
    """Run each model in a new process of this interpreter."""

    timeout: float = Field(600, gt=0, description="Seconds without an answer after which a process is given up.")

    def open(self, model: Path, runtime: str, settings: RuntimeSettings) -> Session:
        """Start a process and load a model file in it.

        Raises:
            HostError: the process can't be started or died.
            MissingPackageError: the runtime is not installed.
            SourceError: the runtime can't load the model.
        """
        command = [sys.executable, str(RUNNER)]
        return ProcessSession(command, os.environ, model, runtime, settings, host="fresh_process", timeout=self.timeout)
