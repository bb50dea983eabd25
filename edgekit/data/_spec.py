"""The YAML that describes a set: where it comes from, how it is read, what is done to it, which part is for what.

::

    schema: 1
    title: CIFAR-10, original pixels
    origin: {url: ..., licence: ..., notes: ...}
    read: {use: npz, path: "${EDGEKIT_DATA}/cifar10.npz", inputs: {input: test_x}, labels: test_y}
    sha256: {cifar10.npz: 7478...}
    classes: [airplane, automobile, ...]
    preprocess: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], layout: nchw}
    splits:
      calibration: {read: {inputs: {input: train_x}, labels: train_y}, count: 300}
      evaluation: {}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgekit.core.errors import DataError, closest
from edgekit.core.resources import bundled, expand
from edgekit.core.schema import Schema, parse, read_yaml
from edgekit.data._preprocess import Preprocess
from edgekit.data._tokenize import Tokenize

Role = Literal["calibration", "evaluation", "training"]


def _words(value: Any) -> Any:
    return tuple(str(item) for item in value) if isinstance(value, list) else value


class Origin(Schema):
    """Where a set comes from and what one may do with it."""

    url: str = Field("", description="Where to fetch it.")
    licence: str = Field("", description="Licence or terms, in words.")
    notes: str = Field("", description="How it was made, and what to beware of.")


class Selection(Schema):
    """Which samples of a storage belong to a set or split."""

    read: dict[str, Any] = Field(default_factory=dict, description="Reader and its options: {use: npz, path: ..., ...}.")
    preprocess: Preprocess | None = Field(None, description="Steps from stored arrays to what the model takes.")
    rows: tuple[int, int] | None = Field(None, description="Only samples start (included) to stop (excluded).")
    count: int | None = Field(None, ge=1, description="A random subset of so many samples.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the random subset.")

    @model_validator(mode="after")
    def _rows_ascend(self) -> Selection:
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise ValueError("rows must be [start, stop] with 0 <= start < stop")
        return self


class DataSetSpec(Selection):
    """A described set; a split overrides its ``read`` option by option, everything else as a whole."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str = Field("", description="Short name; the file's where left out.")
    title: str = Field("", description="What the set is called among people.")
    description: str = Field("", description="What is in it.")
    origin: Origin = Origin()
    loader: str | None = Field(None, description="Short for read: {use: loader, function: file.py:function}.")
    sha256: dict[str, str] = Field(default_factory=dict, description="SHA-256 of each file, by its name.")
    classes: Annotated[tuple[str, ...] | str, BeforeValidator(_words)] = Field((), description="Names in order, or a file with one a line.")
    first_label: int = Field(0, description="The number that stands for the first class in the stored labels.")
    tokenize: Tokenize | None = Field(None, description="From texts to what the model takes.")
    splits: dict[str, Selection] = Field(default_factory=dict, description="Parts of the set, by name.")

    @model_validator(mode="after")
    def _one_way_to_read(self) -> DataSetSpec:
        if bool(self.read) == bool(self.loader):
            raise ValueError("a set needs either 'read' or 'loader'")
        return self

    def select(self, split: str | None) -> Selection:
        """Return the selection of a split, the set's own words filled in where the split is silent."""
        own = self.model_copy(update={"read": {"use": "loader", "function": self.loader}}) if self.loader else self
        chosen = {name: getattr(own, name) for name in Selection.model_fields}
        if split is not None:
            part = self.splits[split]
            chosen |= {name: getattr(part, name) for name in part.model_fields_set}
            if part.read.get("use", own.read.get("use")) == own.read.get("use"):
                chosen["read"] = own.read | part.read
        return Selection(**chosen)


def known_sets() -> list[str]:
    """Names of the sets that come with edgekit."""
    return sorted(path.stem for path in bundled("calibration").glob("*.yaml"))


def load_spec(path: Path) -> DataSetSpec:
    """Read a set's description.

    Raises:
        DataError: missing file, malformed YAML, unknown or wrong key (the nearest known key is named).
    """
    content = read_yaml(path, DataError)
    if "schema" not in content:
        raise DataError(f"{path}: key 'schema' is missing", hint="start with 'schema: 1'")
    return parse(DataSetSpec, content, str(path), DataError)


def find(reference: str, base: Path) -> tuple[Path, str | None]:
    """Resolve ``NAME``, ``NAME:SPLIT``, ``file.yaml`` or ``file.yaml:SPLIT`` to a YAML file and a split.

    Raises:
        DataError: no such set or file.
    """
    where, colon, split = reference.rpartition(":")
    if not colon or expand(reference, base).is_file():
        where, split = reference, ""
    if where in known_sets():
        return bundled("calibration") / f"{where}.yaml", split or None
    path = expand(where, base)
    looks_like_path = path.suffix in (".yaml", ".yml") or "/" in where
    if not looks_like_path:
        raise DataError(f"no data set is called {where!r}", hint=f"{closest(where, known_sets())} Or give the path of a YAML file")
    if path.suffix not in (".yaml", ".yml"):
        raise DataError(f"{path}: a set is described by a YAML file", hint="write one with 'schema: 1' and 'read: {use: ..., path: ...}'")
    if not path.is_file():
        raise DataError(f"{path}: no such file", hint="give the path of a set's YAML file, relative to the recipe")
    return path, split or None


def choose_split(spec: DataSetSpec, name: str, split: str | None, role: Role) -> str | None:
    """Decide which split a reference means.

    Raises:
        DataError: the set has no such split, or has splits and none is named like the role.
    """
    if split is not None:
        if split not in spec.splits:
            hint = closest(split, spec.splits) if spec.splits else f"it has no splits: write {name}"
            raise DataError(f"data set {name} has no split {split!r}", hint=hint)
        return split
    if not spec.splits or role in spec.splits:
        return role if spec.splits else None
    names = ", ".join(spec.splits)
    first = next(iter(spec.splits))
    raise DataError(f"data set {name} has no split {role!r}, only: {names}", hint=f"write {name}:{first}, or name another set for {role}")
