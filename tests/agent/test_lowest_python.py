"""The agent in the lowest Python that it says it needs, as a program of its own: no NumPy, no runtime, nothing of this environment."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import edgekit.agent
from edgekit.core.errors import DeviceError
from edgekit.deploy.agent_file import agent_file
from edgekit.deploy.connection import Connection
from edgekit.deploy.flash import flash
from edgekit.transports.dir import Dir

LOWEST = "3.9"
TESTED = 'import json\nprint(json.dumps({"deviation": 0.0, "p50_us": 1, "peak_kb": 1, "samples": 1}))\n'


def interpreter(version: str) -> str | None:
    """A Python of some version, of the system or of pyenv."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    known: Sequence[Path] = sorted(versions.glob(f"{version}.*/bin/python{version}")) if versions.is_dir() else []
    return shutil.which(f"/usr/bin/python{version}") or (str(known[-1]) if known else None)


PYTHON = interpreter(LOWEST)
OLDER = interpreter("3.8")
pytestmark = pytest.mark.skipif(PYTHON is None, reason=f"needs Python {LOWEST}")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Distributions by name alone, so that a bundle fits, and nothing that could be imported."""
    for name, version in (("onnxruntime", "1.31.1"), ("numpy", "2.0.2")):
        folder = tmp_path / "site" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return tmp_path / "device"


def bundle(forge, folder, version):
    files = {**forge.contents(version), "agent.pyz": TESTED.encode()}
    target = {"architectures": [platform.machine()], "features": []}
    path = folder / f"{version}.edgekit"
    path.write_bytes(forge.bundle(version, files=files, target=target))
    return path


def agent(home, *words):
    done = subprocess.run([str(PYTHON), str(home / "agent.pyz"), *words], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_every_command_of_the_agent(bare, forge, tmp_path):
    with Connection(Dir(folder=str(bare), python=str(PYTHON)), "device") as device:
        first = flash(device, bundle(forge, tmp_path, 1), root=forge.root(), approve=True)
        told = device.ask("probe")
    assert (first.state, told["python"].rpartition(".")[0]) == ("good", LOWEST)
    second = json.loads(agent(bare, "install", str(bundle(forge, tmp_path, 2))).stdout)
    assert agent(bare, "start", "toy").stdout.strip().endswith(second["slot"])
    assert agent(bare, "good", "toy").returncode == 0
    assert json.loads(agent(bare, "status").stdout)["toy"]["state"] == "good"
    assert agent(bare, "back", "toy").stdout.strip().endswith(first.slot)
    damaged = tmp_path / "damaged.edgekit"
    damaged.write_bytes(bundle(forge, tmp_path, 3).read_bytes()[:-2000])
    refused = agent(bare, "install", str(damaged))
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (1, "refused: the bundle is cut short")


def test_everything_that_travels_compiles(tmp_path):
    """The runner's runtimes too, which need libraries to be run."""
    (tmp_path / "agent.pyz").write_bytes(agent_file())
    code = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(sum(bool(compile(z.read(n), n, 'exec')) for n in z.namelist()))"
    done = subprocess.run([str(PYTHON), "-c", code, str(tmp_path / "agent.pyz")], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30
    assert f"Python {LOWEST} or later" in (edgekit.agent.__doc__ or "")


@pytest.mark.skipif(OLDER is None, reason="needs a Python that is too old")
def test_an_older_python_is_told_in_one_line(tmp_path):
    device = Connection(Dir(folder=str(tmp_path / "device"), python=str(OLDER)), "device")
    with device, pytest.raises(DeviceError, match=r"the agent needs Python 3\.9 or later, this is 3\.8"):
        device.ask("probe")
