"""Times modules in memory where they will run, for passes that choose by latency."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.artifacts import Batch
from edgekit.core.bench import Bench
from edgekit.core.errors import HostError
from edgekit.core.machine import this_machine
from edgekit.core.plugin import Context, Exporter, RuntimeSettings
from edgekit.core.progress import Progress, Silent
from edgekit.core.recipe import Measuring
from edgekit.core.registry import name_of
from edgekit.core.store import package_version
from edgekit.evaluation import latency
from edgekit.sessions import host_of, runtime_packages

if TYPE_CHECKING:
    import torch

QUICK = Measuring(rounds=10, round_seconds=0.05)
"""Enough for ratios between variants of one network; what is delivered is measured again, as the recipe says."""


@dataclass(frozen=True)
class RuntimeBench(Bench):
    """Exports modules and lets them race.

    Attributes:
        exporter: writes the runtime's format.
        runtime: what runs them.
        settings: threads and execution precision.
        measuring: rounds and their length.
        progress: told how far a race has come.
    """

    exporter: Exporter
    runtime: str
    settings: RuntimeSettings
    measuring: Measuring = QUICK
    progress: Progress = field(default_factory=Silent)

    @property
    def circumstances(self) -> dict[str, Any]:
        """Format, runtime, versions, settings and machine."""
        packages = (*self.exporter.packages, *runtime_packages(self.runtime))
        return {
            "format": name_of(self.exporter),
            "runtime": self.runtime,
            **asdict(self.settings),
            "versions": {name: package_version(name) for name in sorted(packages)},
            "machine": this_machine().model_dump(mode="json"),
        }

    def race(self, modules: Sequence[torch.nn.Module], example: Batch) -> list[float]:
        """Return the p50 of each module in milliseconds for one sample.

        Raises:
            ExportError: the format can't carry one of them.
            HostError: one of them does not run.
        """
        one = {name: array[:1] for name, array in example.items()}
        host = host_of(self.runtime, fresh=False)
        with tempfile.TemporaryDirectory() as folder:
            contestants = []
            for index, module in enumerate(modules):
                out = Path(folder) / str(index)
                out.mkdir()
                artifact = self.exporter.write(module, out, Context(example=one))
                contestants.append(latency.Contestant(str(index), artifact.model, self.runtime, self.settings, host))
            timings = latency.race(contestants, one, self.measuring, self.progress, alive=len(contestants))
        for timing in timings.values():
            if not timing.rounds:
                raise HostError(f"a variant of the network does not run in {self.runtime}: {timing.reason}", hint="aim at macs instead")
        return [float(np.median(timings[str(index)].medians)) for index in range(len(modules))]
