from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import RecipeError
from edgekit.core.recipe import Recipe, load_recipe
from edgekit.core.schema import parse, read_yaml

GOOD = {"schema": 1, "model": "m.onnx", "data": "digits"}


def test_recipe_defaults() -> None:
    recipe = parse(Recipe, GOOD, "recipe")
    assert recipe.targets == ("host",)
    assert recipe.data.calibration == recipe.data.evaluation == "digits"
    assert recipe.budget.max_drop == 1.0
    assert recipe.quantization.samples == 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"taget": "host"}, "did you mean 'targets'"),
        ({"budget": {"max_dop": 1}}, "did you mean 'max_drop'"),
        ({"quantization": {"granularty": "channel"}}, "did you mean 'granularity'"),
        ({"schema": 2}, "schema"),
        ({"budget": {"max_drop": -1}}, "budget.max_drop"),
        ({"seed": "x"}, "seed"),
        ({"precisions": ["int7"]}, "precisions"),
        ({"quantization": {"calibration": "magic"}}, "'minmax', 'entropy'"),
        ({"name": "../evil"}, "name"),
        ({"targets": []}, "targets"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_right(change: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Recipe, {**GOOD, **change}, "recipe.yaml")
    assert "recipe.yaml" in caught.value.message
    assert words in str(caught.value)


def test_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = parse(Recipe, {**GOOD, "base": tmp_path}, "recipe")
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "line"),
        ("- 1\n- 2\n", "key: value"),
        ("a: 1\na: 2\n", "stands twice"),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
    ],
)
def test_malformed_yaml_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_yaml(path)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml"):
        read_yaml(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="text file"):
        read_yaml(tmp_path / "binary.yaml")
