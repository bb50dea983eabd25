"""Target profiles: what a device's runtimes can do, as frozen data with a source for every fact."""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edgekit.core.errors import TargetError, closest
from edgekit.core.machine import Machine, kernel_features, this_machine
from edgekit.core.quantization import Int8Scheme
from edgekit.core.resources import bundled
from edgekit.core.schema import Schema, parse, read_yaml

HOST = "host"


class Backend(Schema):
    """One runtime on a target."""

    runtime: str = Field(description="Runtime plugin, or the name of one that only the device has (tensorrt).")
    format: str = Field(description="Model format that the runtime loads.")
    precisions: tuple[str, ...] = Field(
        min_length=1,
        description="fp32, bf16, fp16, int8, int4: what the runtime runs; fp16 and int4 may be of weights alone.",
    )
    int8: Int8Scheme | None = Field(None, description="What the int8 kernels expect; None where the device has none.")
    opset: int | None = Field(None, ge=7, description="Newest ONNX opset that the runtime reads; None where it reads all that are written.")
    unsupported: tuple[str, ...] = Field(
        (), description="Operators that the runtime does not read; patterns, domain first: com.microsoft.*"
    )
    version: str | None = Field(None, description="Release that the device's own software brings, when flags and opset depend on it.")
    stand_in: str | None = Field(None, description="Runtime that judges accuracy here when the device's own is not at hand.")
    command: str | None = Field(
        None, description="What to run on the device; {model}, {stem} (name without suffix), {precision_flags}, {shapes} are filled in."
    )
    flags: dict[str, str] = Field(default_factory=dict, description="{precision_flags} by precision.")
    on_request: bool = Field(False, description="Used only by recipes that name the runtime.")

    @field_validator("command")
    @classmethod
    def _known_placeholders(cls, command: str | None) -> str | None:
        known = ("model", "stem", "precision_flags", "shapes")
        for _, name, _, _ in string.Formatter().parse(command or ""):
            if name is not None and name not in known:
                raise ValueError(f"{{{name}}} is not filled in; {closest(name, known)}")
        return command

    @model_validator(mode="after")
    def _consistent(self) -> Backend:
        if ("int8" in self.precisions) != (self.int8 is not None):
            raise ValueError(f"{self.runtime}: 'int8' belongs in 'precisions' exactly when the int8 scheme is given")
        if unknown := set(self.flags) - set(self.precisions):
            raise ValueError(f"{self.runtime}: flags for {sorted(unknown)}, which is not among its precisions")
        return self

    def command_for(self, model: str, precision: str, shapes: Mapping[str, Sequence[int]] | None = None) -> str | None:
        """Write out what to run on the device.

        Args:
            model: file name of the model.
            precision: such as ``int8-static``.
            shapes: shape of each input whose axes vary in the file; without it TensorRT takes 1 for each of them.

        Returns:
            The command, or None where the backend runs inside a program.
        """
        if self.command is None:
            return None
        sizes = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in (shapes or {}).items())
        filled = self.command.format(
            model=shlex.quote(model),
            stem=shlex.quote(Path(model).stem),
            precision_flags=self.flags.get(family(precision), ""),
            shapes=shlex.quote(f"--shapes={sizes}") if sizes else "",
        )
        return " ".join(filled.split())


class Fact(Schema):
    """One line of a profile with where it comes from."""

    field: str
    value: Any
    source: str = ""


_DESCRIPTIVE = ("schema_version", "name", "title", "backends", "sources")
_DETECTED = {"features": "/proc/cpuinfo", "memory_mb": "sysconf", "threads": "latency is measured single-stream on one thread"}


class Target(Schema):
    """A device profile."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    title: str
    architecture: Literal["x86_64", "aarch64", "armv7l", "arm64"]
    features: tuple[str, ...] = Field((), description="Instruction-set extensions, by the names of /proc/cpuinfo.")
    devices: tuple[str, ...] = Field((), description="Parts of the device tree's model by which a device is known; none for a kind of CPU.")
    memory_mb: int | None = Field(None, gt=0, description="Memory in MiB of the smallest such device; None for a kind of CPU.")
    threads: int = Field(1, ge=1, description="Threads a model runs with.")
    simd_width: int = Field(16, ge=1, description="Channels that pruning should leave a multiple of.")
    backends: tuple[Backend, ...] = Field(min_length=1, description="In order of preference.")
    emulate: str | None = Field(None, description="QEMU user-mode CPU model that stands for this CPU.")
    sources: dict[str, str] = Field(description="Where each fact comes from, by field; 'backends.RUNTIME' covers that backend's fields.")

    @field_validator("emulate")
    @classmethod
    def _a_real_cpu(cls, emulate: str | None) -> str | None:
        if emulate == "max":
            raise ValueError("'max' emulates no CPU that exists, and its SME computes int8 wrongly; name a real one")
        return emulate

    @model_validator(mode="after")
    def _sources_name_facts(self) -> Target:
        known = [fact.field for fact in self._facts()] + [f"backends.{backend.runtime}" for backend in self.backends]
        for key in self.sources:
            if key not in known:
                raise ValueError(f"sources: {key!r} is no fact of this profile; {closest(key, known)}")
        return self

    def facts(self) -> list[Fact]:
        """Every fact that the profile states, with its source; an empty source where none is given."""
        return [fact.model_copy(update={"source": self._source(fact.field)}) for fact in self._facts()]

    def _facts(self) -> list[Fact]:
        stated = [name for name in type(self).model_fields if name in self.model_fields_set and name not in _DESCRIPTIVE]
        facts = [Fact(field=name, value=getattr(self, name)) for name in stated]
        for backend in self.backends:
            own = [name for name in type(backend).model_fields if name in backend.model_fields_set and name != "runtime"]
            facts += [Fact(field=f"backends.{backend.runtime}.{name}", value=getattr(backend, name)) for name in own]
        return [fact for fact in facts if fact.value not in (None, (), {})]

    def _source(self, field: str) -> str:
        return self.sources.get(field) or self.sources.get(field.rpartition(".")[0], "")

    def measurable_on(self, machine: Machine) -> bool:
        """Whether a latency measured on a machine is a latency of this target: same kernels, and for a device that very device."""
        if self.name == HOST:
            return True
        if machine.architecture != self.architecture or kernel_features(machine.features) != kernel_features(self.features):
            return False
        return not self.devices or self.is_device(machine)

    def runs_on(self, machine: Machine, backend: Backend) -> bool:
        """Whether a backend does on a machine what it does on this target: no runtime stands in for it, and the kernels are the same."""
        return backend.stand_in is None and self.measurable_on(machine)

    def execution_on(self, machine: Machine, backend: Backend, precision: str) -> str:
        """How a runtime has to execute a model on a machine to compute what this target's kernels do.

        Args:
            machine: the target, or what stands in for it.
            backend: one of this target's.
            precision: of the model, such as ``int8-static``.

        Returns:
            ``unsaturated`` for int8 where the machine's kernels saturate and the target's don't, else ``f32``.
        """
        exact = backend.int8 is not None and not backend.int8.reduce_range and not self.runs_on(machine, backend)
        return "unsaturated" if exact and machine.saturates and family(precision) == "int8" else "f32"

    def is_device(self, machine: Machine) -> bool:
        """Whether a machine is one of the devices that this profile describes."""
        return any(name in machine.cpu for name in self.devices)

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
        if family(precision) not in backend.precisions:
            reason = f"{self.name} has no {family(precision)} in {backend.runtime}"
            raise TargetError(reason, hint=f"use one of: {', '.join(backend.precisions)}")


def family(precision: str) -> str:
    """The precision a kernel must have: ``int8`` for ``int8-static``."""
    return precision.split("-")[0]


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
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name))
    if name not in target_names():
        raise TargetError(f"unknown target {name!r}", hint=f"{closest(name, target_names())} 'edgekit targets' lists them")
    return _bundled(name)


@cache
def _bundled(name: str) -> Target:
    return _read(bundled("targets") / f"{name}.yaml")


def _read(path: Path) -> Target:
    target = parse(Target, read_yaml(path, TargetError), str(path), TargetError)
    if target.name != path.stem:
        raise TargetError(f"{path}: is named {target.name!r} inside", hint=f"set 'name: {path.stem}'")
    return target


@cache
def host_target() -> Target:
    """Describe this machine as a target: the bundled profile whose kernels it shares, under the name ``host``.

    Raises:
        TargetError: no profile fits this machine.
    """
    return describe_host(this_machine(), [load_target(name) for name in target_names() if name != HOST])


def describe_host(machine: Machine, profiles: Sequence[Target]) -> Target:
    """Describe a machine by the profile that fits it best.

    Raises:
        TargetError: no profile fits.
    """
    nearest = nearest_profile(machine, profiles)
    if nearest is None:
        raise TargetError(
            f"no bundled profile fits this machine ({machine.architecture})", hint="write a target YAML and name it with --target FILE.yaml"
        )
    kinship = "like" if nearest.measurable_on(machine) else "nearest to"
    kept = {key: source for key, source in nearest.sources.items() if key not in (*_DETECTED, "devices", "emulate")}
    return nearest.model_copy(
        update={
            "name": HOST,
            "title": f"this machine ({machine.cpu}; {kinship} {nearest.name})",
            "features": machine.features,
            "devices": (),
            "memory_mb": machine.memory_mb,
            "threads": 1,
            "emulate": None,
            "sources": {**kept, **_DETECTED},
        }
    )


def nearest_profile(machine: Machine, profiles: Sequence[Target]) -> Target | None:
    """Return the profile that fits a machine best, or None.

    A profile fits when the machine has all its extensions; one of a device fits that device only, and not at all when its
    preferred runtime needs a stand-in: nothing here can drive it. A device goes before a kind of CPU, more extensions before fewer.
    """
    has = kernel_features(machine.features)
    fitting = [
        profile
        for profile in profiles
        if profile.architecture == machine.architecture
        and kernel_features(profile.features) <= has
        and (not profile.devices or profile.is_device(machine))
        and profile.backends[0].stand_in is None
    ]
    return max(fitting, key=lambda p: (bool(p.devices), len(kernel_features(p.features)), p.name), default=None)
