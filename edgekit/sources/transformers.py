"""A Hugging Face model: a ``save_pretrained`` folder or a hub id.

Remote code is never run unless the user says so, and pickled weights only load as plain tensors.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgekit.core import digest
from edgekit.core.chatter import muted
from edgekit.core.errors import SourceError, closest
from edgekit.core.factories import RAISED, described
from edgekit.core.modules import save_module
from edgekit.core.plugin import Source
from edgekit.core.weights import check_finite
from edgekit.sources._pooling import MODULES, Pooling, pooled, pooling_of

if TYPE_CHECKING:
    import torch

    from edgekit.core.artifacts import Checkpoint
    from edgekit.core.plugin import Context


class Transformers(Source):
    """Load a model with the class its configuration names, or with the task's Auto class."""

    requires = {"transformers": "transformers", "torch": "torch"}

    path: str = Field(description="save_pretrained folder, or hub id such as google-bert/bert-base-uncased.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    auto_class: str | None = Field(None, description="Auto class to load with; the task's own by default.")
    attention: str | None = Field(None, description="Attention implementation: eager or sdpa; the library's choice by default.")
    classes: int | None = Field(None, ge=1, description="Put a new head for so many classes on the model, for finetune to train.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the checkpoint.")

    @classmethod
    def recognises(cls, path: str) -> bool:
        """Whether a folder holds ``config.json``, or a name looks like ``owner/model``."""
        if Path(path).is_dir():
            return (Path(path) / "config.json").is_file()
        return path.count("/") == 1 and not Path(path).suffix and not path.startswith((".", "/", "~")) and not Path(path).exists()

    def fingerprint(self) -> dict[str, str]:
        """Digest of the folder; for a hub id, of the commit that the revision names."""
        folder = Path(self.path)
        if folder.is_dir():
            return {"folder": digest.of_tree(folder)}
        return {"commit": self._commit()}

    def fetch(self, out: Path, context: Context) -> Checkpoint:
        """Load the model and save its weights and configuration.

        Raises:
            SourceError: no such model, damaged weights, an unknown class, missing weights.
        """
        with muted(native=True):  # what it probes for while it imports complains on stderr
            return self._fetched(out, context)

    def _fetched(self, out: Path, context: Context) -> Checkpoint:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        config = self._load(transformers.AutoConfig, what="configuration")
        name = self.auto_class or context.auto_class or (config.architectures or ["AutoModel"])[0]
        kind = getattr(transformers, name, None)
        if kind is None:
            raise SourceError(
                f"transformers has no class {name!r}", hint=closest(name, [n for n in dir(transformers) if n.startswith("Auto")])
            )
        extra: dict[str, Any] = {"attn_implementation": self.attention} if self.attention else {}
        if self.classes is not None:
            transformers.set_seed(context.seed)
            extra |= {"num_labels": self.classes, "ignore_mismatched_sizes": True}
        model, info = self._load(kind, what="weights", output_loading_info=True, dtype="float32", **extra)
        fresh = [key for key in info["missing_keys"] if self.classes is not None and _is_head(key, model)]
        if missing := sorted(set(info["missing_keys"]) - set(fresh)):
            raise SourceError(
                f"{self.path}: {len(missing)} weights of {type(model).__name__} are missing, such as {missing[0]!r}",
                hint="fine-tune a head first, or set auto_class to the class that was trained",
            )
        model.config.use_cache = False
        check_finite(model, self.path)
        model.config.save_pretrained(out)
        description: dict[str, Any] = {"class": type(model).__name__, "attention": self.attention, "remote_code": self.trust_remote_code}
        pooling = pooling_of(Path(self.path)) if _pools(model) else None
        if pooling is not None:
            description["pooling"] = pooling.model_dump(mode="json")
        if self.trust_remote_code and Path(self.path).is_dir():
            for script in Path(self.path).glob("*.py"):
                shutil.copyfile(script, out / script.name)
        notes = [f"loaded as {type(model).__name__}"]
        if pooling is not None:
            notes.append(f"pools tokens by {pooling.how}{', to length 1' if pooling.normalize else ''}, as its {MODULES} says")
        if self.classes is not None:
            notes.append(f"has a new head for {self.classes} classes, untrained")
        made = model if pooling is None else pooled(model, pooling)
        return save_module(made.eval(), out, source="transformers", description=description, notes=notes)

    @classmethod
    def build(cls, checkpoint: Checkpoint) -> torch.nn.Module:
        """Make the model from the saved configuration."""
        description = checkpoint.description
        with muted(native=True):
            return cls._made(checkpoint.path, description)

    @classmethod
    def _made(cls, folder: Path, description: dict[str, Any]) -> torch.nn.Module:
        import transformers

        trusted = description["remote_code"]
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
        extra = {"attn_implementation": description["attention"]} if description["attention"] else {}
        module: torch.nn.Module = getattr(transformers, description["class"])._from_config(config, **extra)
        return pooled(module, Pooling(**description["pooling"])) if description.get("pooling") else module

    def _load(self, kind: Any, *, what: str, **options: Any) -> Any:
        try:
            return kind.from_pretrained(self.path, revision=self.revision or "main", trust_remote_code=self.trust_remote_code, **options)
        except RAISED as problem:
            said = described(problem).removeprefix("OSError: ").removeprefix("ValueError: ")
            hint = "fetch it again: the folder must be what save_pretrained wrote" if Path(self.path).is_dir() else _HINT
            if "trust_remote_code" in str(problem):
                hint = "set trust_remote_code: true if you trust its code"
            elif "weights_only" in str(problem):
                said, hint = "they hold Python objects, which edgekit does not execute", "save them as safetensors, with save_pretrained"
            raise SourceError(f"{self.path}: {what} can't be loaded ({said})", hint=hint) from problem

    def _commit(self) -> str:
        from huggingface_hub import model_info, scan_cache_dir
        from huggingface_hub.utils import CacheNotFound

        try:
            return str(model_info(self.path, revision=self.revision).sha)
        except RAISED as problem:  # offline, in the words of whichever library carries it: the newest cached snapshot decides
            reason = described(problem)
        try:
            cached = [r for r in scan_cache_dir().repos if r.repo_id == self.path]
        except CacheNotFound:
            cached = []
        for repo in cached:
            wanted = self.revision or "main"
            for revision in repo.revisions:
                if wanted in revision.refs or revision.commit_hash.startswith(wanted):
                    return str(revision.commit_hash)
        raise SourceError(f"{self.path}: no such folder, and no such model on the hub or in its cache ({reason})", hint=_HINT)


def _is_head(key: str, model: Any) -> bool:
    """Whether a weight lies outside the pretrained body, or in its pooler, which many bodies come without."""
    return not key.startswith(f"{model.base_model_prefix}.") or ".pooler." in key


def _pools(model: Any) -> bool:
    """Whether a model is a bare body, which gives a vector a token."""
    return bool(model.base_model is model)


_HINT = "check the path or hub id and the network; private models need HF_TOKEN"
