"""Looks at devices: what they are, what runs on them; and takes them back to what was good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.core.errors import BundleError, DeviceError, InputError
from edgekit.core.machine import FEATURES
from edgekit.core.schema import Schema
from edgekit.deploy.connection import connect

if TYPE_CHECKING:
    from edgekit.deploy.connection import Connection


class ModelState(Schema):
    """A model on a device."""

    model: str
    version: int | None = None
    label: str | None = None
    state: str
    current: str | None = None
    good: str | None = None
    runtime: str | None = None
    stored: tuple[str, ...] = ()
    journal: tuple[dict[str, Any], ...] = ()


class DeviceState(Schema):
    """A device as it answered, or why it did not."""

    device: str
    problem: str | None = None
    architecture: str | None = None
    features: tuple[str, ...] = ()
    board: str | None = None
    cores: int | None = None
    memory_mb: int | None = None
    free_mb: int | None = None
    system: str | None = None
    python: str | None = None
    runtimes: dict[str, str] = {}
    tensorrt: bool = False
    trusts: str | None = None
    models: tuple[ModelState, ...] = ()


class RolledBack(Schema):
    """What a device went back to."""

    device: str
    model: str
    slot: str


_TOLD = ("architecture", "board", "cores", "memory_mb", "free_mb", "system", "python", "runtimes", "tensorrt")


def look(url: str) -> DeviceState:
    """Probe a device; one that can't be reached, or refuses to tell, is part of the answer."""
    try:
        with connect(url) as device:
            return describe(device)
    except (BundleError, DeviceError) as problem:
        return DeviceState(device=url, problem=str(problem))


def describe(device: Connection) -> DeviceState:
    """Ask a connected device what it is."""
    told = device.ask("probe")
    root = told["root"]
    return DeviceState(
        device=device.name,
        features=tuple(name for name in FEATURES if name in told["features"]),
        trusts=f"root {root['signed']['version']}" if root else "nobody yet",
        models=tuple(_model(name, state) for name, state in told["models"].items()),
        **{
            key: told[key] for key in ("architecture", "board", "cores", "memory_mb", "free_mb", "system", "python", "runtimes", "tensorrt")
        },
    )


def roll_back(device: Connection, model: str | None) -> RolledBack:
    """Return a device's model to the last good one.

    Raises:
        InputError: no model of that name, or several and none named.
        BundleError: there is nothing to return to.
    """
    chosen = only_model(device, model)
    return RolledBack(device=device.name, model=chosen, slot=device.ask("back", name=chosen)["slot"])


def only_model(device: Connection, wanted: str | None) -> str:
    """Name of the model that is meant.

    Raises:
        InputError: none or several.
    """
    known = sorted(device.ask("status")["models"])
    if wanted is not None and wanted in known:
        return wanted
    if wanted is not None or not known:
        raise InputError(f"{device.name} has no model {wanted or 'at all'}", hint=f"it has: {', '.join(known) or 'none'}")
    if len(known) > 1:
        raise InputError(f"{device.name} has {', '.join(known)}", hint=f"choose one: --model {known[0]}")
    return str(known[0])


def _model(name: str, state: dict[str, Any]) -> ModelState:
    if "problem" in state:
        return ModelState(model=name, state=f"damaged: {state['problem']}")
    return ModelState(model=name, **{key: state[key] for key in ModelState.model_fields if key in state})
