from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from edgekit.core.errors import DataError, RecipeError, SourceError, TargetError
from edgekit.core.recipe import DataChoice, Recipe, load_recipe
from edgekit.core.registry import name_of
from edgekit.core.schema import parse
from edgekit.opening import anchored, anchored_pass, anchored_tokenizers, open_data, open_source, open_targets, resolved

TARGETS = Path(__file__).parent.parent / "targets"


def recipe(base: Path, **content: object) -> Recipe:
    return parse(Recipe, {"schema": 1, "model": "x.onnx", "data": {}, "base": base, **content}, "test")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.pth", "pytorch"),
        ("a.pt", "pytorch"),
        ("a.th", "pytorch"),
        ("a.safetensors", "pytorch"),
        ("a.onnx", "onnx"),
        ("owner/model", "transformers"),
    ],
)
def test_the_source_is_known_by_the_name(tmp_path: Path, name: str, source: str) -> None:
    wish = {"path": name, **({"arch": "x.py:y"} if source == "pytorch" else {})}
    assert name_of(open_source(wish, tmp_path)) == source


def test_a_folder_with_a_configuration_is_a_transformers_model(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    source = open_source("bert", tmp_path)
    assert (name_of(source), source.path) == ("transformers", str(tmp_path / "bert"))


def test_paths_start_from_the_recipes_folder_and_hub_ids_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "/weights")
    wanted = {
        "net.pth": f"{tmp_path}/net.pth",
        "../net.pth": f"{tmp_path.parent}/net.pth",
        "./folder": f"{tmp_path}/folder",
        "/net.pth": "/net.pth",
        "~/net.pth": str(Path("~/net.pth").expanduser()),
        "${WEIGHTS}/net.pth": "/weights/net.pth",
        "google-bert/bert-base-uncased": "google-bert/bert-base-uncased",
    }
    assert {path: resolved(path, tmp_path)["path"] for path in wanted} == wanted
    assert resolved({"path": "a.pth", "arch": "nets/a.py:net"}, tmp_path)["arch"] == f"{tmp_path}/nets/a.py:net"
    assert resolved({"path": "a.pth", "arch": "nets.a:net"}, tmp_path)["arch"] == "nets.a:net"


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ({"arch": "x.py:y"}, RecipeError, "names no path"),
        ({"path": 3}, RecipeError, "names no path"),
        ("gone.pb", SourceError, "gone.pb: no such file or folder"),
        ("empty", SourceError, "empty: no source takes such a file"),
        ("net.pth", RecipeError, "--arch file.py:factory"),
        ({"path": "net.onnx", "opset": 3}, RecipeError, "unknown key 'opset'"),
    ],
)
def test_a_model_that_nobody_takes_is_refused(tmp_path: Path, wish: object, error: type[Exception], words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error) as caught:
        open_source(wish, tmp_path)
    assert words in str(caught.value)


def test_one_set_is_split_by_role(tiny_data: Path) -> None:
    sets = open_data(recipe(tiny_data.parent, data=tiny_data.name))
    assert (len(sets.calibration), len(sets.evaluation), sets.training) == (40, 60, None)
    sets = open_data(
        recipe(tiny_data.parent, data={"evaluation": f"{tiny_data.name}:calibration", "training": f"{tiny_data.name}:evaluation"})
    )
    assert (sets.calibration, len(sets.evaluation), len(sets.training)) == (None, 40, 60)


def test_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a run needs data"):
        open_data(recipe(tmp_path))


def test_a_target_file_lies_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text((TARGETS / "x86-avx2.yaml").read_text().replace("name: x86-avx2", "name: mine"))
    assert [t.name for t in open_targets(recipe(tmp_path, targets=["mine.yaml", "jetson-nano"]))] == ["mine", "jetson-nano"]
    with pytest.raises(TargetError, match=r"mine\.yaml"):
        open_targets(recipe(tmp_path / "elsewhere", targets=["mine.yaml"]))


def test_an_anchored_recipe_means_the_same_elsewhere(tiny_data: Path, tmp_path: Path) -> None:
    base = tiny_data.parent
    content = {"model": {"path": "net.pth", "arch": "net.py:net"}, "targets": ["host", "mine.yaml"]}
    content["passes"] = [{"use": "distil", "teacher": {"path": "big.pth", "arch": "net.py:big"}}, {"use": "distil", "teacher": "original"}]
    original = recipe(base, **content, data={"calibration": f"{tiny_data.name}:calibration", "evaluation": "cifar10-raw:test"})
    moved = anchored(original)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "recipe.yaml").write_text(moved.to_yaml())
    again = load_recipe(tmp_path / "far" / "recipe.yaml")
    assert again.model == {"path": f"{base}/net.pth", "arch": f"{base}/net.py:net"}
    assert again.data.model_dump() == {"calibration": f"{tiny_data}:calibration", "evaluation": "cifar10-raw:test", "training": None}
    assert [wish["teacher"] for wish in again.passes] == [{"path": f"{base}/big.pth", "arch": f"{base}/net.py:big"}, "original"]
    assert again.targets == ("host", f"{base}/mine.yaml")
    assert anchored(again).to_yaml() == moved.to_yaml()
    assert yaml.safe_load(moved.to_yaml())["schema"] == 1


def test_paths_of_a_pass_start_from_the_recipes_folder(tmp_path: Path) -> None:
    wish = {"use": "student", "arch": "nets.py:small", "weights": "start.pth", "teacher": {"path": "t.pth", "arch": "nets.py:big"}}
    assert anchored_pass(wish, tmp_path) == {
        "use": "student",
        "arch": f"{tmp_path}/nets.py:small",
        "weights": f"{tmp_path}/start.pth",
        "teacher": {"path": f"{tmp_path}/t.pth", "arch": f"{tmp_path}/nets.py:big"},
    }
    assert anchored_pass("distil", tmp_path) == "distil"


def test_tokenizers_of_task_and_parts_start_from_the_recipes_folder(tmp_path: Path) -> None:
    wish = {"task": {"use": "translation", "tokenizer": "words"}, "parts": {"use": "encoder_decoder"}}
    recipe = Recipe(model={"path": "m"}, data=DataChoice(evaluation="s.yaml"), base=tmp_path, **wish)
    made = anchored_tokenizers(recipe)
    assert made.task == {"use": "translation", "tokenizer": str(tmp_path / "words")}
    assert made.parts == {"use": "encoder_decoder"}
