"""Weights out of files and modules out of factories; the only code that runs is the function that the user named.

Files are opened with ``weights_only=True`` always: a checkpoint that needs code to be unpickled is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.chatter import muted
from edgekit.core.errors import SourceError
from edgekit.core.factories import RAISED, described, find_function

if TYPE_CHECKING:
    import torch

NESTS = ("state_dict", "model_state_dict", "model", "net", "ema", "weights", "params")


def load_into(module: torch.nn.Module, path: Path) -> list[str]:
    """Copy a file's weights into a module and return what is worth noting.

    Raises:
        SourceError: unreadable or truncated file, code in the pickle, keys or shapes that don't fit, NaN or infinite weights.
    """
    state, notes = find_state(read_tensors(path), path)
    state, stripped = strip_prefix(state, set(module.state_dict()))
    if stripped:
        notes = [*notes, f"removed the prefix {stripped!r} from all keys"]
    notes += fill(module, state, path)
    check_finite(module, path)
    return notes


def read_tensors(path: Path) -> Any:
    """Read a checkpoint file without executing anything.

    Raises:
        SourceError: unreadable, truncated, or a pickle that asks for code.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if not _is_archive(path):
            raise SourceError(f"{path}: is no checkpoint, neither a zip archive nor a pickle", hint=_DAMAGED)
        if _is_program(path):
            raise SourceError(f"{path}: is a TorchScript or exported program, not weights", hint=_TENSORS_ONLY)
        with muted():  # a damaged pickle makes torch guess aloud
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror or problem}", hint="give the path of a state dict") from problem
    except pickle.UnpicklingError as problem:
        if "weights_only" not in str(problem) and "Weights only" not in str(problem):
            raise SourceError(f"{path}: is damaged or no checkpoint ({_first_line(problem)})", hint=_DAMAGED) from problem
        raise SourceError(
            f"{path}: holds Python objects, which edgekit does not execute",
            hint=_TENSORS_ONLY,
        ) from problem
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
        zipfile.BadZipFile,
    ) as problem:
        raise SourceError(f"{path}: is damaged or no checkpoint ({_first_line(problem)})", hint=_DAMAGED) from problem


def _is_archive(path: Path) -> bool:
    """Whether a file begins as torch.save has begun its files in any version."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _is_program(path: Path) -> bool:
    """Whether a zip archive holds code or a graph beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name or name.endswith("/models/model.json") for name in archive.namelist())


_TENSORS_ONLY = "save tensors only, where the model was made: torch.save(model.state_dict(), FILE)"
_DAMAGED = "compare its size and checksum with the original, or fetch it again"


def find_state(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Find the state dict in a file's content, which may be nested, as in ``{"state_dict": ..., "epoch": ...}``.

    Raises:
        SourceError: there is none.
    """
    import torch

    trail: list[str] = []
    while isinstance(content, dict):
        found = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if found and len(found) == len(content):
            return found, [f"took the weights from {'.'.join(trail)!r}"] if trail else []
        nest = next((name for name in NESTS if isinstance(content.get(name), dict)), None)
        if nest is None:
            break
        trail.append(nest)
        content = content[nest]
    raise SourceError(f"{path}: holds no state dict", hint=f"expected a dict of tensors, or one under {', '.join(NESTS)}")


def make_module(arch: str, options: dict[str, Any]) -> torch.nn.Module:
    """Call the architecture's factory.

    Raises:
        SourceError: the factory raises, or returns something else than a module.
    """
    import torch

    factory = find_function(arch)
    try:
        module = factory(**options)
    except RAISED as problem:
        raise SourceError(f"{arch} raised {described(problem)}", hint="the factory must be callable with the given arguments") from problem
    if not isinstance(module, torch.nn.Module):
        raise SourceError(f"{arch} returned {type(module).__name__}, not a torch.nn.Module", hint="name a function that returns the model")
    return module.eval()


def strip_prefix(state: dict[str, torch.Tensor], wanted: set[str]) -> tuple[dict[str, torch.Tensor], str]:
    """Remove a prefix that all keys share (``module.`` of DataParallel, say) when the architecture does not know it."""
    prefix = ""
    keys = state
    while not wanted & set(keys):
        heads = {key.partition(".")[0] for key in keys}
        if len(heads) != 1 or not all("." in key for key in keys):
            return state, ""
        head = heads.pop() + "."
        prefix += head
        keys = {key.removeprefix(head): value for key, value in keys.items()}
    return keys, prefix


def _tied(own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that a file leaves out because they are another name of ones that it holds."""
    held = {_place(own[key]): value for key, value in state.items() if key in own and own[key].numel()}
    return {key: held[_place(value)] for key, value in own.items() if key not in state and _place(value) in held}


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Where a tensor's values lie: the same for two names of one weight."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> list[str]:
    """Copy a state dict into a module and return what is worth noting.

    Raises:
        SourceError: keys or shapes that don't fit; the first of each kind is named.
    """
    own = module.state_dict()
    state = {**_tied(own, state), **state}
    missing = sorted(own.keys() - state.keys())
    counters = [key for key in missing if key.endswith("num_batches_tracked")]
    missing = [key for key in missing if key not in counters]
    unknown = sorted(state.keys() - own.keys())
    if missing or unknown:
        said = [f"{len(keys)} keys {what}, such as {keys[0]!r}" for keys, what in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise SourceError(f"{path}: does not fit the architecture: {'; '.join(said)}", hint="check --arch and its arguments")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise SourceError(
                f"{path}: {key} has shape {list(value.shape)}, the architecture wants {list(own[key].shape)}",
                hint="check --arch and its arguments",
            )
        if value.layout != own[key].layout or value.is_quantized or _kind(value) != _kind(own[key]):
            raise SourceError(
                f"{path}: {key} is {_named(value)}, the architecture wants {_named(own[key])}",
                hint="save plain floating-point weights; dequantize and densify them first",
            )
    module.load_state_dict({**{key: own[key] for key in counters}, **state}, strict=True)
    kinds = {str(value.dtype).removeprefix("torch.") for value in state.values() if value.is_floating_point()} - {"float32"}
    told = [f"weights stored as {', '.join(sorted(kinds - {'float64'}))} were widened to float32"] if kinds - {"float64"} else []
    return [*told, "weights stored as float64 were rounded to float32"] if "float64" in kinds else told


def check_finite(module: torch.nn.Module, origin: Path | str) -> None:
    """Refuse weights that are not numbers; a buffer may hold minus infinity, as masks do.

    Raises:
        SourceError: names the first tensor with NaN or infinity.
    """
    import torch

    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not bool((torch.isfinite(value) if name in weights else value < float("inf")).all()):
            raise SourceError(
                f"{origin}: {name} holds NaN or infinity", hint="the training diverged or the file is damaged; use another checkpoint"
            )


def _kind(value: torch.Tensor) -> str:
    """Numbers that can be copied into each other without loss of meaning."""
    return "complex" if value.is_complex() else "float" if value.is_floating_point() else "integer"


def _named(value: torch.Tensor) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    return f"{str(value.layout).removeprefix('torch.')} {kind}" if str(value.layout) != "torch.strided" else kind


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).strip().splitlines()[0][:160]
