"""A text-to-image pipeline of diffusers: a ``save_pretrained`` folder with text encoder, UNet, VAE and the scheduler's settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core import digest
from edgekit.core.chatter import muted
from edgekit.core.errors import SourceError
from edgekit.core.factories import RAISED, described
from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.weights import check_finite

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context

INDEX = "model_index.json"
NETWORKS = {"text_encoder": "transformers", "unet": "diffusers", "vae": "diffusers"}
"""The networks of a pipeline, with the library that each comes from."""
SCHEDULER = Path("scheduler") / "scheduler_config.json"


class Diffusers(Source):
    """Load the networks of a pipeline of Stable Diffusion's kind: one text encoder, a UNet, a VAE."""

    requires = {"diffusers": "diffusers", "transformers": "transformers", "torch": "torch"}

    path: str = Field(description="save_pretrained folder of a pipeline.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a folder holds ``model_index.json``."""
        return (Path(path) / INDEX).is_file()

    def fingerprint(self) -> dict[str, str]:
        """Digest of the folder."""
        return {"folder": digest.of_tree(Path(self.path))}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Load the networks and save their weights and settings.

        Raises:
            SourceError: not such a pipeline, or damaged files.
        """
        folder = Path(self.path)
        classes = self._classes(folder)
        with muted(native=True):
            networks = {name: self._loaded(folder, name, kind) for name, kind in classes.items()}
        for name in (*(Path(network) / "config.json" for network in classes), SCHEDULER):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
        module = _pipeline(networks, out)
        check_finite(module, self.path)
        notes = [f"loaded {', '.join(classes.values())}"]
        return save_module(module.eval(), out, source="diffusers", description={"classes": classes}, notes=notes)

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the networks from their saved settings."""
        with muted(native=True):
            return _pipeline(
                {name: _made(checkpoint.path / name, kind) for name, kind in checkpoint.description["classes"].items()}, checkpoint.path
            )

    def _classes(self, folder: Path) -> dict[str, str]:
        try:
            index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            found = {name: index[name] for name in NETWORKS}
            (folder / SCHEDULER).read_bytes()
        except (OSError, ValueError, KeyError) as problem:
            hint = f"give the folder of a pipeline with {', '.join(NETWORKS)} and a scheduler"
            raise SourceError(f"{folder}: is no such pipeline ({type(problem).__name__}: {problem})", hint=hint) from problem
        for name, (library, kind) in found.items():
            if library != NETWORKS[name]:
                raise SourceError(
                    f"{folder}: its {name} {kind} is not of {NETWORKS[name]}", hint="only networks of the libraries are loaded"
                )
        return {name: str(kind) for name, (_, kind) in found.items()}

    def _loaded(self, folder: Path, name: str, kind: str) -> Any:
        try:
            options: dict[str, Any] = {"dtype": "float32"} if NETWORKS[name] == "transformers" else {"low_cpu_mem_usage": False}
            return _class(name, kind).from_pretrained(folder / name, local_files_only=True, use_safetensors=True, **options)
        except RAISED as problem:
            raise SourceError(
                f"{folder}: {name} can't be loaded ({described(problem)})", hint="save the pipeline as safetensors, with save_pretrained"
            ) from problem


def _class(name: str, kind: str) -> Any:
    import diffusers
    import transformers

    return getattr(transformers if NETWORKS[name] == "transformers" else diffusers, kind)


def _made(folder: Path, kind: str) -> Any:
    if NETWORKS[folder.name] == "transformers":
        made = _class(folder.name, kind)
        return made._from_config(made.config_class.from_pretrained(folder))
    return _class(folder.name, kind).from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _pipeline(networks: dict[str, Any], folder: Path) -> torch.nn.Module:
    """Put the networks into one module, with the scheduler's settings beside them."""
    import torch

    class Pipeline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, network in networks.items():
                self.add_module(name, network)
            self.scheduler = json.loads((folder / SCHEDULER).read_text(encoding="utf-8"))

    return Pipeline()
