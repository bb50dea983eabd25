"""Makes a bundle of one target's model out of a run folder: decided as plain data, then written; same inputs, same bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from edgekit import __version__
from edgekit.agent import VERSION, archive, canonical, disk, manifest
from edgekit.agent.fit import version
from edgekit.agent.refusal import Refused
from edgekit.core import digest
from edgekit.core.errors import InputError, OutputError
from edgekit.core.machine import this_machine
from edgekit.core.plugin import RuntimeSettings
from edgekit.core.recipe import Recipe, load_recipe
from edgekit.core.report import ModelResult, Report, load_report
from edgekit.core.schema import Schema
from edgekit.core.store import write_problem
from edgekit.core.target import HOST, Target, family
from edgekit.deploy import content, samples
from edgekit.deploy.agent_file import NAME as RUNNER
from edgekit.deploy.agent_file import agent_file
from edgekit.deploy.keys import check_expiry, key_id, signatures
from edgekit.deploy.sbom import bill_of_materials

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgekit.core.datasets import DataSet

_BESIDE = ("plan.json", "search.json")


class Unfinished(Schema):
    """A bundle that lacks signatures."""

    name: str
    version: int
    signed_by: tuple[str, ...]
    threshold: int
    digest: str


class Wish(Schema):
    """What a user says about a bundle beyond the run.

    Attributes:
        version: counter that only goes up; devices refuse a lower one.
        label: version for people.
        name: name of the model on devices; the run's by default.
        expires: last day on which devices take it in.
        samples: how many real inputs its self-test holds.
        tolerance: largest deviation of an output on the device, as a share of that output's range.
        max_latency: milliseconds at the median that the self-test allows; the recipe's budget by default.
        max_memory: MiB at the peak that the self-test allows.
        timeout: seconds for the self-test.
    """

    version: int
    label: str | None = None
    name: str | None = None
    expires: str | None = None
    samples: int = 8
    tolerance: float = 0.02
    max_latency: float | None = None
    max_memory: float | None = None
    timeout: int = 120


@dataclass(frozen=True)
class Source:
    """What a bundle is made from."""

    report: Report
    recipe: Recipe
    target: Target
    model: ModelResult
    folder: Path
    data: DataSet

    @property
    def main(self) -> Path:
        """The model's main file."""
        assert self.model.file is not None
        return self.folder.parent / self.model.file

    @property
    def files(self) -> list[Path]:
        """Every file that the model consists of."""
        return sorted(p for p in self.folder.rglob("*") if p.is_file() and p.name not in _BESIDE)


def open_run(run: Path, target: str | None = None) -> Source:
    """Open a run folder for bundling.

    Args:
        run: what ``edgekit compress`` wrote.
        target: which of its targets; needed where there are several.

    Raises:
        InputError: no run folder, no such target, or one without a delivered model that may ship.
    """
    from edgekit.opening import open_data, open_targets

    report, recipe = load_report(run), load_recipe(run / "recipe.yaml")
    known = [outcome.target for outcome in report.targets]
    if target is None and len(known) > 1:
        raise InputError(f"{run} holds models for {', '.join(known)}", hint=f"choose one: --target {known[0]}")
    chosen = next((o for o in report.targets if o.target == (target or known[0])), None)
    if chosen is None or chosen.chosen is None:
        raise InputError(f"{run} holds no model for {target}", hint=f"it holds: {', '.join(known)}")
    if not report.may_ship(chosen.status):
        why = next((check.message for check in chosen.checks if not report.may_ship(check.status)), chosen.reason)
        raise InputError(f"{run}: the model for {chosen.target} failed its budget: {why}", hint="change the recipe and compress again")
    model = report.model(chosen.chosen)
    if model.file is None or not (run / model.file).is_file():
        raise InputError(f"{run}: the model of {chosen.target} is not there", hint="run edgekit compress again")
    sets = open_data(recipe)
    data = sets.evaluation or sets.calibration
    assert data is not None  # a run always has one
    profile = next(known for known in open_targets(recipe) if known.name == chosen.target)
    return Source(report, recipe, _as_run(profile, report), model, run / chosen.target, data)


def make_bundle(source: Source, wish: Wish, out: Path, *, roots: list[Any], keys: Mapping[str, Ed25519PrivateKey]) -> manifest.Manifest:
    """Write a bundle, whole or not at all.

    Args:
        source: the run.
        wish: version, expiry and limits.
        out: the file to write.
        roots: chain of signed roots that travels with it.
        keys: sign it; none leaves it unsigned, for ``edgekit keys sign``.

    Raises:
        InputError: a wish that makes no valid bundle, or a key that the newest root does not trust.
        OutputError: the file can't be written.
    """
    if wish.expires is not None:
        check_expiry(wish.expires)
    trusted = roots[-1]["signed"]["bundle"]["keys"] if roots else []
    for name, key in keys.items():
        if key_id(key) not in trusted:
            raise InputError(f"key {name!r} is not trusted for bundles", hint="name another --key, or trust it: edgekit keys root")
    files, facts = _contents(source, wish)
    made = _manifest(source, wish, files, facts)
    front = archive.Envelope(made.data, canonical.encode({"roots": roots}), canonical.encode(signatures(made.data, keys.values())))
    _write(out, front, ((path, _size(files[path]), _chunks(files[path])) for path in sorted(files)))
    return made


def sign_bundle(path: Path, keys: Mapping[str, Ed25519PrivateKey], roots: list[Any]) -> None:
    """Add signatures to a bundle, and the roots that follow those in it; a chain that comes from elsewhere would lock devices out.

    Raises:
        BundleError: no bundle, or one whose files are not what its manifest says.
    """
    from edgekit.deploy.reading import open_bundle

    with open_bundle(path) as bundle:
        bundle.check_files()
        signed = {**bundle.signatures, **signatures(bundle.manifest.data, keys.values())}
        have = bundle.roots
        chain = roots if roots[: len(have)] == have else have
        front = archive.Envelope(bundle.manifest.data, canonical.encode({"roots": chain}), canonical.encode(signed))
        files = bundle.manifest.files
        _write(path, front, ((name, files[name]["size"], bundle.read(name)) for name in sorted(files)))


def _contents(source: Source, wish: Wish) -> tuple[dict[str, bytes | Path], samples.Facts]:
    runtime = _runtime(source)
    target = source.target
    execution = target.execution_on(this_machine(), _backend(source), source.model.precision)
    settings = RuntimeSettings(threads=target.threads, precision=execution)
    recorded, facts = samples.record(source.main, runtime, settings, source.data, wish.samples)
    model = {f"model/{path.relative_to(source.folder).as_posix()}": path for path in source.files}
    files: dict[str, bytes | Path] = {**model, RUNNER: agent_file(), "selftest/samples.frames": recorded}
    files["io.json"] = content.interface(source.report, source.model, f"model/{source.main.name}", facts, source.data)
    if source.data.classes:
        files["labels.txt"] = content.labels(source.data.classes)
    files["licences.txt"] = content.licences(source.report, runtime)
    files["sbom.cdx.json"] = bill_of_materials(
        wish.name or source.report.name, wish.version, source.report, runtime, facts, _digests(files)
    )
    return files, facts


def _manifest(source: Source, wish: Wish, files: Mapping[str, bytes | Path], facts: samples.Facts) -> manifest.Manifest:
    limit = wish.max_latency if wish.max_latency is not None else source.recipe.budget.max_latency
    target = source.target
    told = {
        "type": "edgekit-bundle",
        "schema": 1,
        "name": (wish.name or source.report.name).lower().replace(".", "-"),
        "version": wish.version,
        "label": wish.label,
        "expires": wish.expires,
        "agent": VERSION,
        "target": {
            "name": Path(target.name).stem,
            "architectures": [target.architecture],
            "features": sorted(target.features),
            "memory_mb": _memory(source.model),
        },
        "runtime": {
            "name": _runtime(source),
            "at_least": ".".join(map(str, version(facts.runtime_version)[:2])),
            "below": str(version(facts.runtime_version)[0] + 1),
            "threads": target.threads,
            "precision": "bf16" if source.model.precision == "bf16" else "f32",
        },
        "tensorrt": _tensorrt(source, facts),
        "model": f"model/{source.main.name}",
        "runner": RUNNER,
        "selftest": {
            "samples": "selftest/samples.frames",
            "count": facts.count,
            "tolerance": f"{wish.tolerance:.9f}".rstrip("0"),
            "latency_us": None if limit is None else round(limit * 1000),
            "memory_kb": None if wish.max_memory is None else round(wish.max_memory * 1024),
            "timeout_s": wish.timeout,
        },
        "files": {
            path: {"size": _size(data), "sha256": sha256}
            for (path, data), sha256 in zip(files.items(), _digests(files).values(), strict=True)
        },
        "provenance": content.provenance(source.report, source.model, __version__),
    }
    try:
        return manifest.parse(canonical.encode(told))
    except (Refused, ValueError) as problem:
        raise InputError(f"this makes no valid bundle: {problem}", hint="change the option that it names") from problem


def _as_run(target: Target, report: Report) -> Target:
    """The profile that the run was for; ``host`` is the machine that ran it, wherever the bundle is made."""
    if target.name != HOST:
        return target
    machine = report.provenance.machine
    return target.model_copy(update={"architecture": machine.architecture, "features": machine.features})


def _runtime(source: Source) -> str:
    """The runtime that the device's CPU runs the model in: the target's own, or what stands in for TensorRT."""
    return _backend(source).stand_in or source.model.runtime


def _tensorrt(source: Source, facts: samples.Facts) -> dict[str, Any] | None:
    backend = _backend(source)
    if backend.runtime != "tensorrt":
        return None
    flags = backend.flags.get(family(source.model.precision), "").split()
    varying = [spec for spec in facts.inputs if any(isinstance(axis, str) for axis in spec.shape)]
    shapes = ",".join(f"{spec.name}:{'x'.join(map(str, facts.sample[spec.name]))}" for spec in varying)
    return {"flags": [*flags, *([f"--shapes={shapes}"] if shapes else [])]}


def _backend(source: Source) -> Any:
    return source.target.backend(runtime=source.model.runtime, format=source.model.format)


def _memory(model: ModelResult) -> int | None:
    """MiB that the model took here at its peak: a device with less can't hold it."""
    return int(model.memory.peak_mb * 1e6) >> 20 if model.memory and model.memory.peak_mb else None


def _digests(files: Mapping[str, bytes | Path]) -> dict[str, str]:
    return {path: digest.of_bytes(data) if isinstance(data, bytes) else digest.of_file(data) for path, data in files.items()}


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _write(out: Path, front: archive.Envelope, files: Iterable[tuple[str, int, Iterable[bytes]]]) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder", hint="name a file with -o")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as sink:
            try:
                archive.write(cast("BinaryIO", sink), front, files)
                sink.flush()
                os.fsync(sink.fileno())
                Path(sink.name).chmod(0o644)
                Path(sink.name).replace(out)
            except BaseException:
                Path(sink.name).unlink(missing_ok=True)
                raise
    except OSError as problem:
        raise write_problem(out, problem) from problem


def _chunks(data: bytes | Path) -> Iterator[bytes]:
    return iter((data,)) if isinstance(data, bytes) else disk.read(data)
