"""Presets: parts of a recipe under a name, chosen by how long one may wait and what counts. A file here is a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from edgekit.core.errors import RecipeError, closest
from edgekit.core.schema import Schema, parse, read_yaml

FOLDER = Path(__file__).parent
OTHERWISE = "otherwise"


class Preset(Schema):
    """What a preset fills in, by task."""

    title: str = Field(description="What it does, in a few words.")
    tasks: dict[str, dict[str, Any]] = Field(min_length=1, description="Keys of a recipe, by task; 'otherwise' for any other task.")


def preset_names() -> list[str]:
    """Names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read a preset.

    Raises:
        RecipeError: there is none of that name; the nearest is named.
    """
    if name not in preset_names():
        raise RecipeError(f"no preset is called {name!r}", hint=closest(name, preset_names()))
    path = FOLDER / f"{name}.yaml"
    return parse(Preset, read_yaml(path), str(path))


def expanded(name: str, task: str) -> dict[str, Any]:
    """Return the recipe's keys that a preset fills in for a task.

    Raises:
        RecipeError: no such preset, or one that has nothing for the task.
    """
    preset = load_preset(name)
    found = preset.tasks.get(task, preset.tasks.get(OTHERWISE))
    if found is None:
        known = ", ".join(preset.tasks)
        raise RecipeError(f"preset {name} is for {known}, not for {task}", hint="choose another preset, or write the passes into a recipe")
    return dict(found)
