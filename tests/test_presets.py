from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edgekit.api import resolve
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Pass, Task
from edgekit.core.recipe import Recipe
from edgekit.core.registry import create, names
from edgekit.opening import open_data
from edgekit.presets import OTHERWISE, expanded, load_preset, preset_names

EACH = [(name, task) for name in preset_names() for task in load_preset(name).tasks]


def test_the_presets_are_those_that_the_help_names() -> None:
    assert preset_names() == ["balanced", "fast", "max", "small"]


@pytest.mark.parametrize(("name", "task"), EACH)
def test_every_preset_is_a_recipe_whose_passes_exist(name: str, task: str) -> None:
    assert task == OTHERWISE or task in names(Task)
    recipe = Recipe.model_validate({"schema": 1, "model": "net.onnx", "data": "digits", **expanded(name, task)})
    for place, wish in enumerate(recipe.passes):
        create(Pass, wish, f"passes.{place}")


def test_a_preset_fills_in_what_neither_recipe_nor_wish_says(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    content = {"schema": 1, "model": "net.pth", "task": "image_classification", "data": "digits"}
    file.write_text(yaml.safe_dump(content))
    assert resolve(str(file), preset="small").precisions == ("int4",)
    assert resolve(str(file), preset="small", precisions=["int8"]).precisions == ("int8",)
    file.write_text(yaml.safe_dump({**content, "passes": [], "choose": "fastest"}))
    kept = resolve(str(file), preset="small")
    assert (kept.passes, kept.choose, kept.precisions) == ((), "fastest", ("int4",))


def test_the_task_decides_what_a_preset_means() -> None:
    uses = {
        task: [wish["use"] for wish in resolve("net.pth", task=task, data="digits", preset="max").passes]
        for task in ("image_classification", "text_classification")
    }
    assert uses["image_classification"][0] == "prune"
    assert uses["text_classification"][0] == "drop_layers"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="no preset is called 'balance'") as told:
        resolve("net.pth", data="digits", preset="balance")
    assert "balanced" in told.value.hint


def test_a_preset_that_has_nothing_for_a_task_says_so() -> None:
    with pytest.raises(RecipeError, match=r"preset max is for .*, not for generic"):
        resolve("net.pth", data="digits", preset="max")


def test_one_word_for_the_data_means_its_training_split_where_training_is_wanted(tiny_data: Path) -> None:
    split = tiny_data.read_text().replace("  calibration: {rows: [0, 40]}", "  calibration: {rows: [0, 20]}\n  training: {rows: [20, 40]}")
    tiny_data.write_text(split)
    recipe = Recipe.model_validate({"schema": 1, "model": "net.pth", "data": str(tiny_data)})
    assert open_data(recipe).training is None
    assert len(open_data(recipe, training=True).training or ()) == 20
    two = recipe.model_copy(update={"data": recipe.data.model_copy(update={"evaluation": f"{tiny_data}:evaluation"})})
    assert open_data(two, training=True).training is None
