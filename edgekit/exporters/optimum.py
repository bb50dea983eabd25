"""ONNX through optimum's exporters, for architectures that they know and PyTorch's own exporter does not.

optimum-onnx needs an older transformers than edgekit, so it works in an environment of its own, as a process. It is chosen by the
recipe's ``exporters: {onnx: optimum}``.

Reference: https://huggingface.co/docs/optimum-onnx/onnx/usage_guides/export_a_model
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgekit.core import environments
from edgekit.core.artifacts import Artifact
from edgekit.core.errors import ExportError
from edgekit.core.plugin import Exporter
from edgekit.exporters._onnx_graphs import opset_of
from edgekit.exporters.onnx import specs, strip_metadata

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

FILE = "model.onnx"
SCRIPT = """
import sys
import transformers
from optimum.exporters.onnx import main_export
from optimum.exporters.tasks import TasksManager
model, out, kind, opset = sys.argv[1:]
task = TasksManager.infer_task_from_model(getattr(transformers, kind))
main_export(model, output=out, task=task, opset=int(opset), device="cpu", do_validation=False, library_name="transformers")
"""


class Optimum(Exporter):
    """Export a Hugging Face model with batch and sequence left open."""

    writes = "onnx"
    requires = {"onnx": "onnx"}
    packages = ("onnx",)

    opset: int = Field(18, ge=11, le=21, description="Version of the ONNX operator set.")
    environment: tuple[str, ...] = Field(
        ("optimum-onnx==0.1.0", "transformers==4.57.6", "torch==2.13.0", "onnx==1.23.2", "onnxruntime==1.31.1"),
        min_length=1,
        description="What pip installs into the environment; pin the versions.",
    )

    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            ExportError: no model of transformers, one that went through passes, or an architecture that optimum does not know.
            MissingPackageError: the environment can't be made; says which packages pip could not install.
        """
        if checkpoint.source != "transformers" or checkpoint.steps:
            what = "a model that went through passes" if checkpoint.steps else f"a model of source {checkpoint.source}"
            raise ExportError(f"optimum exports Hugging Face models as they came, not {what}", hint="leave out exporters: {onnx: optimum}")
        python = environments.interpreter(self.environment)
        made = out / "optimum"
        command = [str(python), "-c", SCRIPT, str(checkpoint.path), str(made), str(checkpoint.description["class"]), str(self.opset)]
        done = subprocess.run(command, env=_offline(), cwd=out, capture_output=True, text=True, check=False)
        if done.returncode or not (made / FILE).is_file():
            raise ExportError(f"optimum can't carry this model: {_reason(done.stderr)}", hint="use edgekit's own exporter")
        return self._taken(made, out)

    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Refuse: optimum loads models from their folders.

        Raises:
            ExportError: always.
        """
        raise ExportError("optimum exports models from their folders, not modules in memory", hint="use edgekit's own exporter")

    def _taken(self, made: Path, out: Path) -> Artifact:
        """Take the graph over, without the other files that optimum writes."""
        import shutil

        import onnx

        model = onnx.load(made / FILE)
        strip_metadata(model)
        onnx.save(model, out / FILE)
        shutil.rmtree(made)
        told = {"opset": opset_of(model), "changes": ["exported by optimum"]}
        ends = specs(model.graph.input), specs(model.graph.output)
        return Artifact.describe(out, format="onnx", file=FILE, precision="fp32", inputs=ends[0], outputs=ends[1], metadata=told)


def _offline() -> dict[str, str]:
    """The environment's variables; nothing is to be fetched while exporting."""
    return {**environments.environment(), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else "it ended without a word")[:240]
