"""Measures the current model on a device, through the runner that travels in its bundle: the one way a device's latency is *measured*."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.errors import DeviceError
from edgekit.core.plugin import RuntimeSettings, Task
from edgekit.core.recipe import Measuring
from edgekit.core.registry import create
from edgekit.core.report import Latency, Memory
from edgekit.core.schema import Schema
from edgekit.deploy.connection import connect, script
from edgekit.deploy.devices import DeviceState, describe, only_model
from edgekit.evaluation import latency, memory
from edgekit.hosts.remote import Remote

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch
    from edgekit.core.datasets import DataSet
    from edgekit.core.plugin import Session
    from edgekit.core.progress import Progress

_OF_THE_HOST = ("load_before", "load_after", "cores", "noise")
"""What the race notes of the machine that asks, which is not the one that ran."""


class DeviceBenchmark(Schema):
    """What a model did on a device."""

    device: DeviceState
    model: str
    version: int
    slot: str
    latency: Latency
    memory: Memory
    inputs: str
    samples: int = 0
    metrics: dict[str, float] = {}


def benchmark_device(
    url: str, *, model: str | None = None, data: DataSet | None = None, task: str = "generic", measuring: Measuring, progress: Progress
) -> DeviceBenchmark:
    """Measure latency and memory of a device's current model, and its accuracy where a set is given.

    Args:
        url: the device.
        model: name on the device; needed where there are several.
        data: real inputs with labels; random inputs, and no accuracy, without.
        task: what judges the outputs.
        measuring: rounds and their length.
        progress: told how far it has come.

    Raises:
        DeviceError: the device can't be reached, or has no current model.
    """
    with connect(url, known=True) as device:
        told = device.ask("probe")
        name = only_model(device, model)
        state = describe(device)
        home, transport = told["home"], device.transport
    found = next(entry for entry in state.models if entry.model == name)
    if found.current is None or found.version is None:
        raise DeviceError(f"{url}: {name} has no current model", hint="flash one")
    told_of = told["models"][name]
    file = Path(home) / "models" / name / "slots" / found.current / told_of["file"]
    host = Remote(command=tuple(transport.shell(script(transport, "runner", announce=False))))
    settings = RuntimeSettings(threads=told_of["threads"], precision=told_of["precision"])
    with host.open(file, told_of["runtime"], settings) as session:
        inputs = next(data.batches(1, limit=1))[0] if data else _random(session)
        metrics, samples = _judge(session, data, task, progress)
    timing = latency.race([latency.Contestant(name, file, told_of["runtime"], settings, host)], inputs, measuring, progress)[name]
    if timing.reason:
        raise DeviceError(f"{url}: {timing.reason}", hint="edgekit devices shows what runs there")
    with host.open(file, told_of["runtime"], settings) as session:
        for _ in range(3):
            session.run(inputs)
        peak = memory.peak(session)
    measured = latency.summarise(timing, export=None, original=None)
    around = {key: value for key, value in measured.circumstances.items() if key not in _OF_THE_HOST}
    return DeviceBenchmark(
        device=state,
        model=name,
        version=found.version,
        slot=found.current,
        latency=measured.model_copy(update={"circumstances": {**around, "machine": state.board or state.architecture}}),
        memory=peak,
        inputs=data.name if data else "random numbers",
        samples=samples,
        metrics=metrics,
    )


def _judge(session: Session, data: DataSet | None, task: str, progress: Progress) -> tuple[dict[str, float], int]:
    judge = create(Task, task, "task")
    if data is None or not judge.labelled:
        return {}, 0
    rows = []
    for number, (inputs, labels) in enumerate(data.batches(1), 1):
        outputs = session.run(inputs)
        rows.append(judge.observe(outputs, labels, outputs))
        progress.advance(number, len(data))
    observations = np.concatenate(rows)
    return judge.metrics(observations), len(observations)


def _random(session: Session) -> Batch:
    chance = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for spec in session.inputs:
        shape = tuple((1 if axis == 0 else 64) if isinstance(size, str) else size for axis, size in enumerate(spec.shape))
        kind = np.dtype(spec.dtype)
        made[spec.name] = chance.standard_normal(shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)
    return made
