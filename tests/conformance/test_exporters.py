"""What every exporter promises: the model under its own names, computing the same, and nothing written anywhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core import digest
from edgekit.core.artifacts import Artifact, Checkpoint
from edgekit.core.errors import InputError
from edgekit.core.modules import load_module
from edgekit.core.plugin import Context, Exporter
from edgekit.core.registry import create, load, names
from edgekit.runner import load as open_model
from edgekit.sessions import NATIVE

IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
CONTEXT = Context(example={"image": IMAGE})
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from edgekit.core.artifacts import Checkpoint
from edgekit.core.plugin import Context, Exporter
from edgekit.core.registry import create
name, checkpoint, example, out = sys.argv[1:]
context = Context(example={"image": np.load(example)})
print(create(Exporter, name, "exporter").export(Checkpoint.load(Path(checkpoint)), Path(out), context).digest)
"""

pytestmark = pytest.mark.parametrize("name", [name for name in names(Exporter) if not load(Exporter, name).writes])
"""A further exporter of a format that needs an environment of its own has tests of its own."""
Exported = Callable[[str], Artifact]


def listing(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest.of_file(p) for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}


def test_artifact_says_what_it_is(name: str, exported: Exported) -> None:
    made = exported(name)
    assert (made.format, made.precision) == (name, "fp32")
    assert made.model.is_file()
    assert Artifact.load(made.path) == made
    assert made.digest == digest.of_tree(made.path, skip=("artifact.json",))


def test_inputs_and_outputs_keep_names_types_and_shapes(name: str, exported: Exported) -> None:
    made = exported(name)
    assert [(i.name, i.dtype, i.shape) for i in made.inputs] == [("image", "float32", ("batch", 3, 8, 8))]
    assert [(o.name, o.dtype, o.shape) for o in made.outputs] == [("output", "float32", ("batch", 5))]


def test_runtime_sees_what_the_artifact_says(name: str, exported: Exported) -> None:
    made = exported(name)
    model = open_model(made.model, NATIVE[made.format], threads=1, precision="f32")
    told = [(t.name, t.dtype, tuple(t.shape)) for t in (*model.inputs, *model.outputs)]
    model.close()
    assert told == [(t.name, t.dtype, t.shape) for t in (*made.inputs, *made.outputs)]


@pytest.mark.parametrize("batch", [1, 3])
def test_same_outputs_as_the_module(name: str, exported: Exported, checkpoint: Checkpoint, batch: int) -> None:
    import torch

    x = np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)
    model = open_model(exported(name).model, NATIVE[name], threads=1, precision="f32")
    found = model.run({"image": x})["output"]
    model.close()
    with torch.inference_mode():
        np.testing.assert_allclose(found, load_module(checkpoint)(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_only_out_is_written_and_nothing_printed(
    name: str, checkpoint: Checkpoint, exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = listing(checkpoint.path.parent)
    (tmp_path / "out").mkdir()
    again = create(Exporter, name, "exporter").export(checkpoint, tmp_path / "out", CONTEXT)
    assert capfd.readouterr() == ("", "")
    assert listing(checkpoint.path.parent) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert again.digest == exported(name).digest


def test_a_module_in_memory_gives_the_same_bytes(name: str, checkpoint: Checkpoint, exported: Exported, tmp_path: Path) -> None:
    made = create(Exporter, name, "exporter").write(load_module(checkpoint), tmp_path, CONTEXT)
    assert made.digest == exported(name).digest


def test_files_name_no_path_of_this_machine(name: str, exported: Exported, checkpoint: Checkpoint) -> None:
    for path in exported(name).files:
        content = path.read_bytes()
        assert str(checkpoint.path.parent).encode() not in content
        assert str(Path.home()).encode() not in content


def test_another_process_gives_the_same_bytes(name: str, exported: Exported, checkpoint: Checkpoint, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", IMAGE)
    for folder in ("out", "home"):
        (tmp_path / folder).mkdir()
    command = [sys.executable, "-c", SCRIPT, name, str(checkpoint.path), str(tmp_path / "image.npy"), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path / "home")})
    assert run.stdout.split() == [exported(name).digest], run.stderr[-2000:]
    assert not list((tmp_path / "home").iterdir()), "a library left something in the user's home"


def test_graph_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    for folder in ("graph", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "graph" / "model.bin").write_bytes(b"?")
    graph = Checkpoint.describe(tmp_path / "graph", "onnx", "graph", {"format": "unheard-of", "file": "model.bin"})
    with pytest.raises(InputError) as problem:
        create(Exporter, name, "exporter").export(graph, tmp_path / "out", CONTEXT)
    assert problem.value.hint


def test_wrong_example_is_told_with_its_shape(name: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image \[\d, 7, 8, 8\]"):
        create(Exporter, name, "exporter").export(checkpoint, tmp_path, Context(example={"image": np.zeros((1, 7, 8, 8), np.float32)}))
