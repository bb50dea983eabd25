"""What this machine has of what edgekit needs, and the one command that mends each gap.

It has to work where edgekit does not: every package beyond the standard library and pydantic may be missing or broken here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import edgekit
from edgekit.core.machine import Machine, this_machine
from edgekit.core.schema import Schema

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from edgekit.runner.contract import Runtime

State = Literal["ok", "missing", "broken", "wrong version", "absent"]
Group = Literal["python", "package", "format", "runtime", "cpu", "tool", "place"]

ROOM_GB = 2.0
"""Free space in GB below which a run with a few candidates may not fit."""
IMPORT_SECONDS = 120
TROUBLEMAKERS = {"torchvision": "while it is broken, models of transformers fail to import"}
"""Packages that edgekit does not need, and that break others when they don't import."""
TOOLS = {
    "qemu-aarch64-static": ("emulates Arm boards, for accuracy", "qemu-user-static"),
    "qemu-x86_64-static": ("emulates older x86, for accuracy without VNNI", "qemu-user-static"),
    "ssh": ("reaches devices", "openssh-client"),
}
"""What each program is for, and the Debian package that has it."""


class Check(Schema):
    """One line of the diagnosis."""

    group: Group
    name: str
    state: State = Field(description="'absent' is a gap that nothing needs.")
    found: str = Field("", description="Version, path or what was said.")
    needed: bool = Field(True, description="Whether the three formats need it.")
    fix: str = Field("", description="One command or sentence; empty where there is nothing to mend.")

    @property
    def good(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.state == "ok" or not self.needed


class Diagnosis(Schema):
    """All checks."""

    schema_version: Literal[1] = Field(1, alias="schema")
    edgekit: str
    ok: bool = Field(description="Whether everything for the three formats is there.")
    fix: str = Field(description="The command that mends all packages at once; empty when there is nothing to mend.")
    machine: Machine
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Installed:
    """Versions of the installed distributions, by lower-case name with dashes."""

    versions: Mapping[str, str]

    @staticmethod
    def here() -> Installed:
        """Look at the running environment."""
        return Installed({_normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]})

    def version(self, name: str) -> str | None:
        """Version of a distribution, or None."""
        return self.versions.get(_normal(name))


def diagnose(*, deep: bool = False) -> Diagnosis:
    """Check everything.

    Args:
        deep: import every package in a process of its own, which takes seconds each, instead of only looking it up.
    """
    installed = Installed.here()
    needed, python = requirements()
    packages = [*check_python(python), *check_packages(needed, installed, deep=deep), *check_troublemakers(installed)]
    missing = {check.name for check in packages if check.group == "package" and check.state in ("missing", "broken")}
    checks = [*packages, *check_plugins(missing), *check_cpu(), *check_tools(), *check_places()]
    return Diagnosis(
        edgekit=edgekit.__version__,
        ok=all(check.good for check in checks),
        fix=_one_command(packages),
        machine=this_machine(),
        checks=tuple(checks),
    )


def requirements() -> tuple[list[Requirement], str]:
    """What edgekit's own metadata asks for on this platform, and which Python; empty when packaging is not there to read it."""
    try:
        from packaging.requirements import Requirement

        stated = metadata.metadata("edgekit")
    except (ImportError, metadata.PackageNotFoundError):
        return [], ""
    parsed = [Requirement(text) for text in stated.get_all("Requires-Dist") or []]
    python = (stated.get_all("Requires-Python") or [""])[0]
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})], python


def check_python(wanted: str) -> Iterator[Check]:
    """Compare Python's version with what edgekit supports."""
    here = platform.python_version()
    if not wanted:
        fix = "pip install packaging" if _absent("packaging") else "pip install -e . (in edgekit's folder)"
        yield Check(group="python", name="edgekit", state="missing", found="its metadata can't be read", fix=fix)
        return
    from packaging.specifiers import SpecifierSet

    fits = SpecifierSet(wanted).contains(here, prereleases=True)
    fix = "" if fits else f"make the environment with Python {wanted}"
    yield Check(group="python", name="python", state="ok" if fits else "wrong version", found=f"{here} ({sys.executable})", fix=fix)


def check_packages(needed: Iterable[Requirement], installed: Installed, *, deep: bool) -> Iterator[Check]:
    """Compare each needed package's version with the range that works; with ``deep``, also import it."""
    modules = top_level_modules() if deep else {}
    for requirement in needed:
        name, version = requirement.name, installed.version(requirement.name)
        fix = f"pip install {shlex.quote(f'{requirement.name}{requirement.specifier}')}"
        if version is None:
            yield Check(group="package", name=name, state="missing", found=f"wanted {requirement.specifier}", fix=fix)
        elif not requirement.specifier.contains(version, prereleases=True):
            found = f"{version}, wanted {requirement.specifier}"
            yield Check(group="package", name=name, state="wrong version", found=found, fix=fix)
        elif reason := import_problem(modules.get(_normal(name), "")):
            again = fix.replace("pip install", "pip install --force-reinstall --no-deps")
            yield Check(group="package", name=name, state="broken", found=f"{version}: {reason}", fix=again)
        else:
            yield Check(group="package", name=name, state="ok", found=version)


def check_troublemakers(installed: Installed) -> Iterator[Check]:
    """Import installed packages that edgekit can do without and that do harm when they are broken."""
    for name, harm in TROUBLEMAKERS.items():
        version = installed.version(name)
        if version is None:
            continue
        reason = import_problem(name)
        if reason:
            fix = f"pip uninstall -y {name} (or install the build that fits torch {installed.version('torch')})"
            yield Check(group="package", name=name, state="broken", found=f"{version}: {reason}; {harm}", fix=fix)
        else:
            yield Check(group="package", name=name, state="ok", found=version, needed=False)


def check_plugins(missing: set[str]) -> Iterator[Check]:
    """Formats that can be made and runtimes that can run here, by what their plugins say they need."""
    try:
        from edgekit.core.plugin import Exporter, Quantizer
        from edgekit.core.registry import load, names

        exporters = {name: load(Exporter, name) for name in names(Exporter)}
        formats = {name: set(kind.requires.values()) for name, kind in exporters.items() if not kind.writes}
        for name in names(Quantizer):
            quantizer = load(Quantizer, name)
            formats.setdefault(quantizer.accepts, set()).update(quantizer.requires.values())
        runtimes = {name: kind.PACKAGES[0] for name, kind in runtime_classes().items()}
    except ImportError as problem:
        yield Check(group="format", name="all", state="broken", found=f"edgekit does not import ({problem})", fix="mend the packages above")
        return
    lacking = {_normal(name) for name in missing}
    for name, packages in sorted(formats.items()):
        gaps = sorted(p for p in packages if _normal(p) in lacking or _absent_distribution(p))
        yield _plugin_check("format", name, gaps, f"by {', '.join(sorted(packages))}")
    for name, package in sorted(runtimes.items()):
        if name == "tflite_runtime":
            yield check_tflite_runtime()
        else:
            yield _plugin_check("runtime", name, [package] if _normal(package) in lacking or _absent_distribution(package) else [], package)


def _plugin_check(group: Literal["format", "runtime"], name: str, gaps: list[str], found: str) -> Check:
    if not gaps:
        return Check(group=group, name=name, state="ok", found=found)
    elsewhere = [gap for gap in gaps if not offered_here(gap)]
    if elsewhere:
        said = f"{', '.join(elsewhere)} has no build for {platform.machine()}: make the model on x86-64 and run it here"
        return Check(group=group, name=name, state="absent", found=said, needed=False)
    return Check(group=group, name=name, state="missing", found=f"lacks {', '.join(gaps)}", fix=f"pip install {' '.join(gaps)}")


def offered_here(distribution: str) -> bool:
    """Whether edgekit's metadata asks for a distribution on this platform, so that it can be had here."""
    stated = metadata.requires("edgekit") or [] if not _absent_distribution("edgekit") else []
    named = [text for text in stated if _normal(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]) == _normal(distribution)]
    return not named or _normal(distribution) in {_normal(requirement.name) for requirement in requirements()[0]}


def runtime_classes() -> dict[str, type[Runtime]]:
    """The runtimes of the runner, by the name that recipes use."""
    import edgekit.runner.runtimes as folder
    from edgekit.runner.contract import Runtime

    found: dict[str, type[Runtime]] = {}
    for module in pkgutil.iter_modules(folder.__path__):
        if not module.name.startswith("_"):
            code = importlib.import_module(f"{folder.__name__}.{module.name}")
            kinds = [c for c in vars(code).values() if inspect.isclass(c) and c.__module__ == code.__name__ and issubclass(c, Runtime)]
            found[module.name] = kinds[0]
    return found


def check_tflite_runtime() -> Check:
    """Look for the environment that the legacy tflite-runtime needs for itself; nothing is made here."""
    from edgekit.core.store import default_root

    places = sorted(default_root().glob("venvs/*/lib/python*/site-packages/tflite_runtime-*.dist-info"))
    if not places:
        found = "its own environment is made when a recipe first names the runtime"
        return Check(group="runtime", name="tflite_runtime", state="absent", found=found, needed=False)
    version = places[-1].name.removeprefix("tflite_runtime-").removesuffix(".dist-info")
    return Check(group="runtime", name="tflite_runtime", state="ok", found=f"{version} in {places[-1].parents[3]}", needed=False)


def check_cpu() -> Iterator[Check]:
    """Which target this machine is."""
    from edgekit.core.errors import TargetError
    from edgekit.core.target import host_target

    machine = this_machine()
    has = f"{machine.architecture}: {' '.join(machine.features) or 'no known extension'}"
    try:
        title = host_target().title
    except TargetError as problem:
        yield Check(group="cpu", name="target host", state="absent", found=f"{has}; {problem.message}", needed=False, fix=problem.hint)
        return
    yield Check(group="cpu", name="target host", state="ok", found=f"{title}; {has}")


def check_tools() -> Iterator[Check]:
    """Programs that edgekit uses when they are there."""
    for name, (purpose, package) in TOOLS.items():
        place = shutil.which(name)
        fix = "" if place else f"apt-get install {package}"
        yield Check(group="tool", name=name, state="ok" if place else "absent", found=place or purpose, needed=False, fix=fix)


def check_places() -> Iterator[Check]:
    """Where results are kept and data is looked for."""
    from edgekit.core.resources import data_root
    from edgekit.core.store import default_root

    store = default_root()
    existing = next(path for path in (store, *store.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    said = f"{store}, {free:.1f} GB free"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Check(
            group="place", name="store", state="broken", found=f"{said}, not writable", fix="set EDGEKIT_CACHE to a folder of yours"
        )
    elif free < ROOM_GB:
        yield Check(group="place", name="store", state="broken", found=said, fix="free some space, or set EDGEKIT_CACHE to another disk")
    else:
        yield Check(group="place", name="store", state="ok", found=said)
    data = data_root()
    there = data.is_dir()
    fix = "" if there else "set EDGEKIT_DATA to the folder of the data packs; only the benchmarks need them"
    yield Check(group="place", name="EDGEKIT_DATA", state="ok" if there else "absent", found=str(data), needed=False, fix=fix)


def import_problem(module: str) -> str:
    """Import a module in a process of its own; return the last line of what went wrong, or '' (also for '')."""
    if not module:
        return ""
    quietly = "import sys; sys.modules['openvino_telemetry'] = None"  # else importing openvino would report it over the network
    command = [sys.executable, "-W", "ignore", "-c", f"{quietly}; import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"import {module} takes more than {IMPORT_SECONDS} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().rpartition("\n")[2][:200]
    return said or f"import {module} ends the process with code {done.returncode}"


def top_level_modules() -> dict[str, str]:
    """The module to import for each distribution: the one of the same name, else its first public one."""
    offered: dict[str, list[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        for distribution in distributions:
            offered.setdefault(_normal(distribution), []).append(module)
    chosen = {}
    for name, modules in offered.items():
        public = sorted(m for m in modules if m.isidentifier() and not m.startswith("_"))
        same = [m for m in public if m.lower() == name.replace("-", "_")]
        if public:
            chosen[name] = (same or public)[0]
    return chosen


def _one_command(checks: Iterable[Check]) -> str:
    wanted = [c.fix.removeprefix("pip install ") for c in checks if not c.good and c.fix.startswith("pip install ") and "(" not in c.fix]
    others = [c.fix for c in checks if not c.good and (not c.fix.startswith("pip install ") or "(" in c.fix)]
    plain = [fix for fix in wanted if not fix.startswith("--")]
    again = [f"pip install {fix}" for fix in wanted if fix.startswith("--")]
    return " && ".join([*([f"pip install {' '.join(plain)}"] if plain else []), *again, *others])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _absent(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def _absent_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return True
    return False
