"""YAML in, frozen typed objects out; a mistyped key is an error that names the nearest known one."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgekit.core.errors import InputError, RecipeError, closest

try:  # libyaml reads all target profiles in a tenth of the time
    from yaml import CSafeLoader as _SafeLoader
except ImportError:
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class Schema(BaseModel):
    """Base of everything that users write: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=False)


S = TypeVar("S", bound=BaseModel)


class _UniqueKeyLoader(_SafeLoader):
    """Safe YAML in which a key that stands twice is an error instead of a silent override."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is no plain word", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
        seen.add(key.value)
    return _SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, error: type[InputError] = RecipeError) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: of the given type, when the file is missing, unreadable, not YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise error(f"{path}: {problem.strerror or problem}", hint="give the path of an existing YAML file") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not a text file", hint="give a YAML file in UTF-8") from problem
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise error(f"{path}:{where} is not valid YAML: {getattr(problem, 'problem', None) or problem}", hint="mend the YAML") from problem
    except RecursionError as problem:
        raise error(f"{path}: is nested too deeply", hint="mend the YAML") from problem
    if not isinstance(content, dict):
        raise error(f"{path}: holds no key: value pairs", hint="start with 'schema: 1'")
    return content


def parse(model: type[S], content: Mapping[str, Any], where: str, error: type[InputError] = RecipeError) -> S:
    """Check a mapping against a schema.

    Args:
        model: the pydantic model to make.
        content: what the user wrote.
        where: file or option that the message names.
        error: the error type to raise.

    Raises:
        InputError: of the given type; names the first wrong key and, for an unknown one, the nearest known key.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as problem:
        raise _explain(model, problem, where, error) from problem


def _explain(model: type[BaseModel], problem: ValidationError, where: str, error: type[InputError]) -> InputError:
    errors = problem.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a mistyped required key is missing as well
    location = ".".join(str(part) for part in first["loc"]) or "content"
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        return error(f"{where}: unknown key {location!r}", hint=closest(str(first["loc"][-1]), known))
    if first["type"] == "missing":
        return error(f"{where}: key {location!r} is missing", hint=f"add '{location}: ...'")
    more = f" (and {problem.error_count() - 1} more)" if problem.error_count() > 1 else ""
    said = first["msg"].removeprefix("Value error, ")
    return error(f"{where}: {location}: {said}{more}", hint=_allowed(first))


def _allowed(detail: Any) -> str:
    context = detail.get("ctx", {})
    if "expected" in context:
        return f"allowed: {context['expected']}"
    return f"got {reprlib.repr(detail.get('input'))}"[:160]  # a short YAML file can hold a value too long to write out


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that stands at a location inside another model."""
    here: Any = model
    own_word = False
    for part in location:
        if own_word or isinstance(part, int) or not (isinstance(here, type) and issubclass(here, BaseModel)):
            own_word = False
            continue
        field = next((f for name, f in here.model_fields.items() if part in (name, f.alias)), None)
        own_word = field is not None and get_origin(field.annotation) is dict
        here = _model_in(field.annotation) if field else None
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [field.alias or name for name, field in here.model_fields.items()]
    return []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
