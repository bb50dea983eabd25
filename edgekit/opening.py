"""From the words of a recipe to the source and the data sets they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgekit.core.datasets import DataSets
from edgekit.core.errors import DataError, RecipeError, SourceError
from edgekit.core.factories import anchor
from edgekit.core.plugin import Source
from edgekit.core.recipe import DataChoice
from edgekit.core.registry import create, load, names
from edgekit.core.resources import expand
from edgekit.core.target import load_target

if TYPE_CHECKING:
    from edgekit.core.recipe import PluginWish, Recipe
    from edgekit.core.target import Target


def open_source(wish: PluginWish, base: Path) -> Source:
    """Make the source plugin that a recipe's ``model`` means; paths start from ``base``.

    Raises:
        RecipeError: no path, or options that the source does not know.
        SourceError: no source takes such a file.
    """
    options = resolved(wish, base)
    if "use" not in options:
        options["use"] = _source_for(options["path"])
    if options["use"] == "pytorch" and "arch" not in options:
        raise RecipeError(
            f"{options['path']}: a state dict needs the architecture it belongs to",
            hint="add --arch file.py:factory (or 'arch:' to the recipe's model)",
        )
    return create(Source, options, "model")


def resolved(wish: PluginWish, base: Path) -> dict[str, Any]:
    """Return a model wish as a mapping with absolute paths; a hub id stays as it is.

    Raises:
        RecipeError: the wish names no path.
    """
    options: dict[str, Any] = {"path": wish} if isinstance(wish, str) else dict(wish)
    if not isinstance(options.get("path"), str):
        raise RecipeError("model: names no path", hint="add 'path: FILE'")
    local = expand(options["path"], base)
    if _A_NAME.match(options["path"]) and not local.exists():
        return options
    if local.exists() or local.suffix or options["path"].startswith((".", "/", "~", "$")):
        options["path"] = str(local)
    if isinstance(options.get("arch"), str):
        options["arch"] = anchor(options["arch"], base)
    return options


def _source_for(path: str) -> str:
    fitting = [name for name in names(Source) if load(Source, name).recognises(path)]
    if fitting:
        return fitting[0]
    if not Path(path).exists():
        raise SourceError(f"{path}: no such file or folder", hint="check the path; relative paths start from the recipe's folder")
    raise SourceError(
        f"{path}: no source takes such a file",
        hint=f"give a state dict, a model file or a save_pretrained folder ({', '.join(names(Source))})",
    )


def open_data(recipe: Recipe, *, training: bool = False) -> DataSets:
    """Open the recipe's data sets.

    Args:
        recipe: names them.
        training: whether a training set is of use: then one word for calibration and evaluation means that set's training split too.

    Raises:
        DataError: a set that can't be used, or none at all.
    """
    from edgekit.data import Role, open_dataset

    choice = recipe.data
    if choice.calibration is None and choice.evaluation is None:
        raise DataError("a run needs data: real inputs to calibrate, verify and judge with", hint="name a set with --data SET.yaml")
    model = model_folder(recipe.model, recipe.base)
    references = choice.model_dump()
    if training and choice.training is None:
        references["training"] = _training_split(choice, recipe.base)
    opened: dict[str, Any] = {
        role: open_dataset(reference, role=role, base=recipe.base, model=model)
        for role in get_args(Role)
        if (reference := references[role]) is not None
    }
    return DataSets(**opened)


def _training_split(choice: DataChoice, base: Path) -> str | None:
    from edgekit.data import splits

    if choice.evaluation is None or choice.evaluation != choice.calibration:
        return None
    return choice.evaluation if "training" in splits(choice.evaluation, base) else None


def open_targets(recipe: Recipe) -> list[Target]:
    """Load the recipe's target profiles.

    Raises:
        TargetError: an unknown name or a malformed profile.
    """
    return [load_target(anchored_file(name, recipe.base)) for name in recipe.targets]


def anchored(recipe: Recipe) -> Recipe:
    """Return a recipe that means the same wherever it lies: every path in it is absolute.

    Raises:
        RecipeError: the model names no path.
    """
    sets = {role: name and anchored_file(name, recipe.base) for role, name in recipe.data.model_dump().items()}
    return anchored_tokenizers(recipe).model_copy(
        update={
            "model": resolved(recipe.model, recipe.base),
            "data": DataChoice(**sets),
            "targets": tuple(anchored_file(name, recipe.base) for name in recipe.targets),
            **{name: tuple(anchored_pass(wish, recipe.base) for wish in getattr(recipe, name)) for name in ("prepare", "passes")},
        }
    )


def anchored_pass(wish: PluginWish, base: Path) -> PluginWish:
    """Make the paths in a pass's options absolute: its ``arch``, its ``weights``, and a ``teacher`` that is a model.

    Raises:
        RecipeError: a teacher that names no path.
    """
    if isinstance(wish, str):
        return wish
    options = dict(wish)
    if isinstance(options.get("arch"), str):
        options["arch"] = anchor(options["arch"], base)
    if isinstance(options.get("weights"), str):
        options["weights"] = str(expand(options["weights"], base))
    if isinstance(options.get("teacher"), dict):
        options["teacher"] = resolved(options["teacher"], base)
    return options


def anchored_tokenizers(recipe: Recipe) -> Recipe:
    """Return a recipe whose task and parts name their tokenizer by an absolute path."""

    def absolute(wish: PluginWish | None) -> PluginWish | None:
        if not isinstance(wish, dict) or not isinstance(wish.get("tokenizer"), str):
            return wish
        return {**wish, "tokenizer": str(expand(wish["tokenizer"], recipe.base))}

    return recipe.model_copy(update={"task": absolute(recipe.task), "parts": absolute(recipe.parts)})


def anchored_file(reference: str, base: Path) -> str:
    """Make the path of ``file.yaml`` or ``file.yaml:SPLIT`` absolute; a name stays as it is."""
    file = reference if Path(reference).suffix in _YAML else reference.rpartition(":")[0]
    return str(expand(reference, base)) if Path(file).suffix in _YAML else reference


_YAML = (".yaml", ".yml")
_A_NAME = re.compile(r"[a-z_]+:[^/\\]+$")
"""A model of a library, such as ``timm:resnet18``: no file, whatever its suffix looks like."""


def model_folder(wish: str | Mapping[str, Any], base: Path) -> Path | None:
    """Folder of a checkpoint that may bring its own tokenizer."""
    path = Path(resolved(dict(wish) if isinstance(wish, Mapping) else wish, base)["path"])
    return path if path.is_dir() else None
