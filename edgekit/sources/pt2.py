"""An exported program (``.pt2``): PyTorch's own graph, which needs no code to be rebuilt.

It is read as JSON and raw weights, never unpickled, and becomes a module again, so that every format can be made of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import digest
from edgekit.core.errors import SourceError
from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.weights import check_finite
from edgekit.runner import RunnerError
from edgekit.sources._program import Outline, as_module, ends, outline

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

OUTLINE = "program.json"


class Pt2(Source):
    """Take a program that ``torch.export.save`` wrote, with a batch that varies."""

    requires = {"torch": "torch", "safetensors": "safetensors"}

    path: Path = Field(description="The .pt2 file.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether the suffix is ``.pt2``."""
        return Path(path).suffix == ".pt2"

    def fingerprint(self) -> dict[str, str]:
        """Digest of the file."""
        if not self.path.is_file():
            raise SourceError(f"{self.path}: no such file", hint="give the path of a .pt2 file")
        return {"program": digest.of_file(self.path)}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Read the program and save its graph and weights.

        Raises:
            SourceError: a damaged file, pickled content, an operator outside ATen, a fixed number of samples, NaN or infinite weights.
        """
        try:
            found, stored = outline(self.path)
            module = as_module(found)
        except RunnerError as problem:
            raise SourceError(problem.message, hint=problem.hint) from problem
        except (KeyError, ValueError, RuntimeError) as problem:
            raise SourceError(f"{self.path}: its graph can't be rebuilt ({problem})", hint="export it again with PyTorch 2.13") from problem
        for spec in ends(found)[0]:
            if not spec.shape or isinstance(spec.shape[0], int):
                raise SourceError(
                    f"{self.path}: input {spec.name!r} is fixed to {list(spec.shape)}",
                    hint="export it with a batch that varies: dynamic_shapes={...: {0: torch.export.Dim('batch')}}",
                )
        module.load_state_dict(stored)
        check_finite(module, str(self.path))
        (out / OUTLINE).write_text(json.dumps(found._asdict(), sort_keys=True), encoding="utf-8")
        return save_module(module, out, source="pt2", description={"file": OUTLINE})

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the module from the saved graph."""
        content = json.loads((checkpoint.path / OUTLINE).read_text(encoding="utf-8"))
        return as_module(Outline(**content))
