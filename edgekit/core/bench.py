"""The contract of what times modules for passes that choose by latency."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Batch


class Bench(ABC):
    """Times modules as they will run: exported for the target, in its runtime, with its threads."""

    @property
    @abstractmethod
    def circumstances(self) -> dict[str, Any]:
        """Format, runtime, threads and machine, as plain data."""

    @abstractmethod
    def race(self, modules: Sequence[torch.nn.Module], example: Batch) -> list[float]:
        """Return the p50 of each module in milliseconds for one sample; all take turns, so that the ratios hold.

        Raises:
            ExportError: the format can't carry one of them.
            HostError: one of them does not run.
        """
