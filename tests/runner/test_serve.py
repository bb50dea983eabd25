"""The runner as a program: started as a folder, spoken to in raw frames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import edgekit.runner
from edgekit.runner import protocol

RUNNER = Path(edgekit.runner.__file__).parent


class Asker:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def send(self, content: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(content)
        self.process.stdin.flush()

    def receive(self) -> protocol.Frame | None:
        source = self.process.stdout
        assert source
        return protocol.unpack(lambda view: os.readv(source.fileno(), [view]))

    def ask(self, command: str, arrays: dict[str, np.ndarray] | None = None, **header: Any) -> protocol.Frame:
        self.send(b"".join(bytes(p) for p in protocol.pack({"command": command, **header}, arrays or {})))
        answer = self.receive()
        assert answer is not None
        return answer

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(timeout=20)


@contextmanager
def runner(*command: str, **options: Any) -> Iterator[Asker]:
    start = [*command] or [sys.executable, str(RUNNER)]
    pipe = subprocess.PIPE
    with subprocess.Popen(start, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, **options) as process:
        try:
            yield Asker(process)
        finally:
            process.kill()


def test_a_model_is_loaded_run_timed_and_closed(models: dict[str, Path], tiny: SimpleNamespace) -> None:
    inputs = tiny.batch(3)
    with runner() as asker:
        header, _ = asker.ask("load", path=str(models["onnxruntime"]), runtime="onnxruntime", threads=1, precision="f32")
        assert header["inputs"] == [["image", "float32", ["batch", 1, 4, 4]], ["index", "int64", ["batch"]]]
        assert header["circumstances"]["runtime"] == "onnxruntime"
        _, outputs = asker.ask("run", inputs)
        np.testing.assert_allclose(outputs["logits"], tiny.reference(inputs)["logits"], rtol=0, atol=1e-5)
        _, times = asker.ask("time", inputs, seconds=0, at_least=5)
        assert times["nanoseconds"].dtype == np.int64
        assert times["nanoseconds"].shape == (5,)
        memory, _ = asker.ask("memory")
        assert 10_000_000 < memory["before"] <= memory["peak"]
        assert "error" not in asker.ask("close")[0]
        assert asker.process.wait(timeout=20) == 0


def test_wrong_commands_are_answered_and_the_runner_goes_on(models: dict[str, Path], tiny: SimpleNamespace) -> None:
    with runner() as asker:
        assert asker.ask("dance")[0]["error"] == {"kind": "internal", "message": "unknown command 'dance'", "hint": ""}
        assert asker.ask("run", tiny.batch(1))[0]["error"]["message"] == "no model is loaded"
        assert asker.ask("load")[0]["error"]["kind"] == "internal"
        missing = asker.ask("load", path="/nowhere.onnx", runtime="onnxruntime", threads=1, precision="f32")[0]["error"]
        assert (missing["kind"], missing["message"]) == ("model", "/nowhere.onnx: no such file")
        asker.ask("load", path=str(models["onnxruntime"]), runtime="onnxruntime", threads=1, precision="f32")
        assert asker.ask("run", {"image": np.zeros(3)})[0]["error"]["kind"] == "input"
        assert asker.ask("run", tiny.batch(1))[1]["logits"].shape == (1, 3)
        assert asker.end() == 0


@pytest.mark.parametrize("content", [b"GET / HTTP/1.1\r\n\r\n", b"EDGE\xff\xff\xff\xff", b"EDGE\x02\x00\x00\x00[]"])
def test_a_malformed_frame_is_answered_and_ends_the_runner(content: bytes) -> None:
    with runner() as asker:
        asker.send(content)
        answer = asker.receive()
        assert answer is not None
        assert "malformed frame" in answer[0]["error"]["message"]
        assert asker.receive() is None
        assert asker.process.wait(timeout=20) == 1


@pytest.mark.parametrize("content", [b"", b"ED", b"EDGE\x10\x00\x00\x00{"])
def test_the_end_of_the_stream_ends_the_runner(content: bytes) -> None:
    with runner() as asker:
        asker.send(content)
        assert asker.end() == (1 if content else 0)


def test_ctrl_c_is_left_to_the_asker() -> None:
    with runner() as asker:
        asker.ask("memory")
        asker.process.send_signal(signal.SIGINT)
        assert asker.ask("memory")[0]["peak"] > 0


CHATTY = """
import os, runpy, sys
runpy.run_path({main!r})["_load_package"]()
from edgekit_runner import serve
answer = serve.Service.answer
def chatty(self, header, arrays):
    print("INFO: hello from a library", flush=True)
    os.write(1, b"and from its C code" * 1000)
    assert sys.stdin.read() == ""
    return answer(self, header, arrays)
serve.Service.answer = chatty
sys.exit(serve.main())
"""


def test_chatty_libraries_do_not_disturb_the_frames() -> None:
    with runner(sys.executable, "-c", CHATTY.format(main=str(RUNNER / "__main__.py"))) as asker:
        assert asker.ask("memory")[0]["peak"] > 0
        assert asker.ask("memory")[0]["peak"] > 0
        assert asker.end() == 0


def test_the_folder_is_a_package_of_its_own_that_shadows_nothing(models: dict[str, Path]) -> None:
    code = f"""
import runpy, sys
sys.path.insert(0, {str(RUNNER)!r})
runpy.run_path({str(RUNNER / "__main__.py")!r})["_load_package"]()
import edgekit_runner, pathlib
edgekit_runner.load(pathlib.Path({str(models["onnxruntime"])!r}), "onnxruntime")
print([p for p in sys.path if p == {str(RUNNER)!r}], "site-packages" in sys.modules["onnxruntime"].__file__)
print(sorted({{n.partition(".")[0] for n in sys.modules}} & {{"edgekit", "pydantic", "yaml", "torch", "openvino"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.splitlines() == ["[] True", "[]"]


def test_on_a_terminal_it_says_what_it_is() -> None:
    leader, follower = os.openpty()
    try:
        done = subprocess.run([sys.executable, str(RUNNER)], stdin=follower, capture_output=True, text=True, check=False)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 2
    assert "model runner" in done.stderr


@pytest.mark.parametrize("runtime", ["pytorch", "onnxruntime", "openvino", "litert"])
def test_an_idle_runner_uses_no_processor_time(models: dict[str, Path], tiny: SimpleNamespace, runtime: str) -> None:
    with runner() as asker:
        asker.ask("load", path=str(models[runtime]), runtime=runtime, threads=2, precision="f32")
        asker.ask("time", tiny.batch(50_000), seconds=0.2, at_least=5)  # enough to wake all threads
        before = cpu_seconds(asker.process.pid)
        time.sleep(0.5)
        assert cpu_seconds(asker.process.pid) - before <= 0.02


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
