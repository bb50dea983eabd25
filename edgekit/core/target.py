"""Target profiles: what a device's runtimes can do, as frozen data with a source for every fact."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgekit.core.errors import TargetError, closest
from edgekit.core.machine import Machine, this_machine
from edgekit.core.quantization import Int8Scheme
from edgekit.core.resources import bundled
from edgekit.core.schema import Schema, parse, read_yaml

HOST = "host"


class Backend(Schema):
    """One runtime on a target."""

    runtime: str = Field(description="Runtime plugin, or the name of one that only the device has (tensorrt).")
    format: str = Field(description="Model format that the runtime loads.")
    precisions: tuple[str, ...] = Field(description="fp32, bf16, fp16, int8, int4: what the device's kernels compute or accept.")
    int8: Int8Scheme | None = Field(None, description="What the int8 kernels expect; None where the device has none.")
    stand_in: str | None = Field(None, description="Runtime that judges accuracy here when the device's own is not at hand.")
    command: str | None = Field(None, description="What to run on the device; {model} and {precision_flags} are filled in.")


class Target(Schema):
    """A device profile."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    title: str
    architecture: Literal["x86_64", "aarch64", "armv7l", "arm64"]
    features: tuple[str, ...] = Field((), description="Instruction-set extensions, by the names of /proc/cpuinfo.")
    memory_mb: int = Field(gt=0, description="Memory of the device in MB.")
    threads: int = Field(1, ge=1, description="Threads a model runs with.")
    simd_width: int = Field(16, ge=1, description="Channels that pruning should leave a multiple of.")
    backends: tuple[Backend, ...] = Field(min_length=1, description="In order of preference.")
    emulate: str | None = Field(None, description="QEMU user-mode CPU model that stands for this CPU.")
    sources: dict[str, str] = Field(description="Where each fact comes from, by field.")

    def measurable_on(self, machine: Machine) -> bool:
        """Whether a latency measured on a machine is a latency of this target: same architecture and same kernels."""
        return self.name == HOST or (machine.architecture == self.architecture and set(machine.features) == set(self.features))

    def backend(self, *, runtime: str | None = None, format: str | None = None) -> Backend:  # noqa: A002 - the field's word
        """Return the preferred backend, or the first that fits what is asked.

        Raises:
            TargetError: no backend of this target fits.
        """
        for backend in self.backends:
            if runtime in (None, backend.runtime) and format in (None, backend.format):
                return backend
        wanted = runtime or format or "?"
        known = sorted({b.format for b in self.backends} | {b.runtime for b in self.backends})
        raise TargetError(f"{self.name} does not run {wanted}", hint=f"{self.name} runs: {', '.join(known)}")

    def require(self, backend: Backend, precision: str) -> None:
        """Refuse a precision that a backend does not compute.

        Raises:
            TargetError: names the precisions that it does compute.
        """
        family = precision.split("-")[0]
        if family not in backend.precisions:
            reason = f"{self.name} has no {family} in {backend.runtime}"
            raise TargetError(reason, hint=f"use one of: {', '.join(backend.precisions)}")


def target_names() -> list[str]:
    """Names of all targets: the bundled profiles and ``host``."""
    return sorted({HOST, *(path.stem for path in bundled("targets").glob("*.yaml"))})


def load_target(name: str) -> Target:
    """Return a target by name, or from a YAML file of the user's own.

    Raises:
        TargetError: unknown name (the nearest is named) or a malformed profile.
    """
    if name == HOST:
        return host_target()
    path = Path(name) if name.endswith((".yaml", ".yml")) else bundled("targets") / f"{name}.yaml"
    if not path.is_file():
        raise TargetError(f"unknown target {name!r}", hint=f"{closest(name, target_names())} 'edgekit targets' lists them")
    target = parse(Target, read_yaml(path, TargetError), str(path), TargetError)
    if target.name != path.stem:
        raise TargetError(f"{path}: is named {target.name!r} inside", hint=f"set 'name: {path.stem}'")
    return target


@cache
def host_target() -> Target:
    """Describe this machine as a target: the bundled profile whose kernels it shares, under the name ``host``."""
    machine = this_machine()
    profiles = [load_target(name) for name in target_names() if name != HOST]
    alike = [t for t in profiles if t.architecture == machine.architecture and set(t.features) <= set(machine.features)]
    if not alike:
        raise TargetError(
            f"no bundled profile fits this machine ({machine.architecture})", hint="write a target YAML and name it with --target FILE.yaml"
        )
    nearest = max(alike, key=lambda t: len(t.features))
    return nearest.model_copy(
        update={
            "name": HOST,
            "title": f"this machine ({machine.cpu}; kernels of {nearest.name})",
            "features": machine.features,
            "memory_mb": machine.memory_mb,
            "threads": 1,
        }
    )
