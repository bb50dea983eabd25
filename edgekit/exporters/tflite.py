"""TFLite through LiteRT's PyTorch converter, with the layer names that people know from their module.

The graph is converted for one sample, because only fixed shapes run in the accelerated kernels. Where that leaves a graph that serves
any batch, its batch axis is marked as variable; this is tried out, not assumed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import tflite_buckets, tflite_model
from edgekit.core.chatter import innermost, muted
from edgekit.core.errors import ExportError
from edgekit.core.modules import example_call, load_module, named_outputs
from edgekit.core.plugin import Exporter
from edgekit.exporters._tflite_biases import flatten_biases
from edgekit.exporters._tflite_broadcasts import concatenate_repeated

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgekit.core.artifacts import Artifact, Checkpoint
    from edgekit.core.modules import ExampleCall
    from edgekit.core.plugin import Context

MASK = "attention_mask"


class TfLite(Exporter):
    """Export in fp32; 64-bit integers become 32-bit, other axes than the batch get the example's lengths."""

    requires = {"litert_torch": "litert-torch", "ai_edge_litert": "ai-edge-litert"}
    packages = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")

    @classmethod
    def check_packages(cls) -> None:
        """Import what the plugin needs, without the greetings of the packages behind it."""
        with muted(native=True):
            super().check_packages()

    def export(self, checkpoint: Checkpoint, out: Path, context: Context) -> Artifact:
        """Write ``model.tflite``.

        Raises:
            ExportError: an operator has no TFLite form, or the checkpoint is a graph of another format.
        """
        if checkpoint.kind == "module":
            return self.write(load_module(checkpoint), out, context)
        if checkpoint.description.get("format") != "tflite":
            raise ExportError(f"a ready {checkpoint.source} graph does not become TFLite", hint="start from the PyTorch checkpoint")
        _check(checkpoint.path / checkpoint.description["file"])
        shutil.copyfile(checkpoint.path / checkpoint.description["file"], out / tflite_model.FILE)
        return tflite_model.describe(out, "fp32", {})

    def write(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write ``model.tflite`` from a module in memory.

        Raises:
            ExportError: as :meth:`export`.
        """
        if context.lengths:
            return self._of_lengths(module, out, context)
        file = out / tflite_model.FILE
        with muted(native=True):
            model = _converted(module, example_call(module, context, batch=1), file)
            tflite_model.write(model, file)
            if vary_batch(model) and _serves_any_batch(model, file, out):
                tflite_model.write(model, file)
        return tflite_model.describe(out, "fp32", {})

    def _of_lengths(self, module: torch.nn.Module, out: Path, context: Context) -> Artifact:
        """Write one flatbuffer with a graph for each length."""
        tflite_buckets.check_masked(list(context.example))
        file = out / tflite_model.FILE
        models = {}
        for length in context.lengths:
            example = tflite_buckets.fitted(context.example, context.dynamic, length)
            with muted(native=True):
                models[length] = _converted(module, example_call(module, replace(context, example=example), batch=1), file)
        tflite_model.write(tflite_buckets.merged(models), file)
        told = f"graphs for lengths {', '.join(map(str, sorted(models)))}; the runner pads to the smallest that fits"
        return tflite_model.describe(out, "fp32", {"lengths": sorted(models), "changes": [told]})


_HINT = "rewrite the named operator, or choose another format with --format"


def _check(file: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    with muted(native=True):
        try:
            Interpreter(model_path=str(file)).allocate_tensors()
        except (ValueError, RuntimeError) as problem:
            raise ExportError(f"{file.name} is not a TFLite model that loads: {innermost(problem)}", hint="check the file") from problem


def _converted(module: torch.nn.Module, call: ExampleCall, file: Path) -> Any:
    """Convert a module; return the flatbuffer's object tree, its layers named. ``file`` is written over."""
    _convert(module, call, file)
    model = tflite_model.read(file)
    concatenate_repeated(model)
    flatten_biases(model)
    name_layers(model, module)
    return model


def _convert(module: torch.nn.Module, call: ExampleCall, file: Path) -> None:
    import litert_torch
    import torch

    inner = _with_wide_mask(module, call)

    class Named(torch.nn.Module):
        """Takes its inputs and returns its outputs by name, so that the signature bears these names."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            return named_outputs(inner(inputs))

    try:
        with _module_paths_as_names():
            made = litert_torch.convert(Named().eval(), sample_kwargs=dict(zip(call.names, call.tensors, strict=True)))
            made.export(str(file))
    except Exception as problem:
        raise ExportError(f"TFLite can't carry this model: {innermost(problem)}", hint=_HINT) from problem


def _with_wide_mask(module: torch.nn.Module, call: ExampleCall) -> Any:
    """Return a function that calls the module on named inputs.

    A transformer looks up its mask of keys [N, S] token by token, which older interpreters can't do. Where the module gives the same
    result for the additive mask [N, 1, 1, S] that comes of it in the end, it is handed that one.
    """
    import torch

    def plain(inputs: dict[str, torch.Tensor]) -> Any:
        return module(*inputs.values()) if call.args else module(**inputs)

    def widened(inputs: dict[str, torch.Tensor]) -> Any:
        wide = (1.0 - inputs[MASK].to(torch.float32))[:, None, None, :] * torch.finfo(torch.float32).min
        return module(**{**inputs, MASK: wide})

    given = dict(zip(call.names, call.tensors, strict=True))
    if MASK not in given or given[MASK].dim() != 2 or given[MASK].is_floating_point():
        return plain
    shortened = given[MASK].clone()
    shortened[:, (shortened.shape[1] + 1) // 2 :] = 0
    probes = [given, {**given, MASK: shortened}]
    try:
        with torch.inference_mode():
            same = all(_alike(plain(probe), widened(probe)) for probe in probes)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return plain
    return widened if same else plain


def _alike(first: Any, second: Any) -> bool:
    import torch

    pairs = zip(named_outputs(first).values(), named_outputs(second).values(), strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


@contextlib.contextmanager
def _module_paths_as_names() -> Iterator[None]:
    """Let the converter name tensors ``layer1.0.conv1;`` instead of by the classes of all modules around."""
    from litert_torch.backend import debuginfo

    def path_of(node: torch.fx.Node) -> str | None:
        stack = node.meta.get("nn_module_stack") if hasattr(node, "meta") else None
        if not stack:
            return None
        return str(list(stack.values())[-1][0]).removeprefix("L['self'].").removeprefix("inner").removeprefix(".") + ";"

    before = debuginfo.build_mlir_debuginfo
    debuginfo.build_mlir_debuginfo = path_of
    try:
        yield
    finally:
        debuginfo.build_mlir_debuginfo = before


def name_layers(model: Any, module: torch.nn.Module) -> None:
    """Name tensors after the modules they come from: ``layer1.0.conv1``, or ``layer1.0/Add`` for what has no weights.

    The converter joins the names of what it fuses by ``;;``, the outermost module of the last step first. Layers that share a step before
    them, such as the projections of one input, bear each other's names too; a name that a layer has alone is that layer's.
    """
    known = dict(module.named_modules())
    matrices = {name for name, value in module.named_parameters(remove_duplicate=False) if value.ndim > 1}
    with_weights = {name for name in known if f"{name}.weight" in matrices}
    branches = {name for name, part in known.items() if any(True for _ in part.children())}
    graph = model.subgraphs[0]
    inputs, outputs = tflite_model.specs(model)
    fixed = {
        **dict(zip(graph.inputs, (s.name for s in inputs), strict=True)),
        **dict(zip(graph.outputs, (s.name for s in outputs), strict=True)),
    }
    layers = tflite_model.layers(model)
    origins = [[part for part in _parts(model, layer) if part in known] for layer in layers]
    eligible = [with_weights if layer.weighted else branches for layer in layers]
    fitting = [[name for name in names if name in some] for some, names in zip(eligible, origins, strict=True)]
    alone = {names[0] for layer, names in zip(layers, fitting, strict=True) if layer.weighted and len(set(names)) == 1}
    seen: Counter[str] = Counter(fixed.values())
    named: dict[int, str] = {}
    for layer, every, names in zip(layers, origins, fitting, strict=True):
        own = [name for name in names if name not in alone] if layer.weighted else []
        origin = (own or names or every or [""])[0]
        kind = "".join(word.capitalize() for word in layer.operator.split("_"))
        name = origin if layer.weighted and origin else f"{origin}/{kind}".removeprefix("/")
        seen[name] += 1
        for place, index in enumerate(layer.node.outputs):
            unique = name if seen[name] == 1 else f"{name}_{seen[name]}"
            named[index] = unique if place == 0 else f"{unique}:{place}"
    for index, tensor in enumerate(graph.tensors):
        tensor.name = (named.get(index) or fixed.get(index) or f"c{index}").encode()


def _parts(model: Any, layer: tflite_model.Layer) -> list[str]:
    """The names that are joined in those of a layer and of its constants."""
    tensors = model.subgraphs[0].tensors
    stored = [index for index in layer.node.inputs if tflite_model.constant(model, index) is not None]
    joined = [layer.name, *(tensors[index].name.decode() for index in stored)]
    return [part.rpartition(";")[0] for text in joined for part in (text if ";" in text else text + ";").replace(";;", ";\n").split("\n")]


def vary_batch(model: Any) -> bool:
    """Mark the batch axis of inputs and outputs as variable, and let reshapes work it out; return whether there is one to mark."""
    import numpy as np

    graph = model.subgraphs[0]
    ends = [graph.tensors[index] for index in (*graph.inputs, *graph.outputs)]
    if any(tensor.shape is None or not len(tensor.shape) or tensor.shape[0] != 1 for tensor in ends):
        return False
    for tensor in ends:
        tensor.shapeSignature = [-1, *tensor.shape[1:]]
    for layer in tflite_model.layers(model):
        node = layer.node
        if layer.operator == "STRIDED_SLICE" and _values(model, node.inputs[1])[:1] == [0] and _values(model, node.inputs[2])[:1] == [1]:
            node.builtinOptions.endMask |= 1
        place = {"RESHAPE": 1, "SLICE": 2}.get(layer.operator)
        sizes = _values(model, node.inputs[place]) if place else []
        if sizes and min(sizes) > 0:
            sizes[0] = -1
            model.buffers[graph.tensors[node.inputs[place]].buffer].data = np.array(sizes, np.int32).view(np.uint8)
            if layer.operator == "RESHAPE" and node.builtinOptions is not None:
                node.builtinOptions.newShape = sizes
    return True


def _values(model: Any, index: int) -> list[int]:
    """Values of an int32 tensor that the file stores; empty for one that is computed."""
    import numpy as np

    raw = tflite_model.constant(model, index)
    return [] if raw is None else [int(v) for v in np.frombuffer(bytes(raw), np.int32)]


def _serves_any_batch(model: Any, single: Path, out: Path) -> bool:
    """Whether a graph gives for three different samples at once what the file for one sample gives for each."""
    import numpy as np

    trial = out / "trial.tflite"
    tflite_model.write(model, trial)
    try:
        rng = np.random.default_rng(0)
        inputs, _ = tflite_model.specs(model)
        batch = [_random(rng, (3, *spec.shape[1:]), spec.dtype) for spec in inputs]
        together = _run(trial, batch)
        apart = [_run(single, [values[i : i + 1] for values in batch]) for i in range(3)]
        return all(
            whole.shape[0] == 3 and np.allclose(whole, np.concatenate(parts), rtol=1e-4, atol=1e-5)
            for whole, *parts in zip(together, *apart, strict=True)
        )
    except (RuntimeError, ValueError):
        return False
    finally:
        trial.unlink()


def _random(rng: np.random.Generator, shape: tuple[int | str, ...], dtype: str) -> np.ndarray:
    sizes = tuple(int(size) for size in shape)
    return rng.normal(size=sizes).astype(dtype) if dtype.startswith("float") else rng.integers(0, 2, sizes).astype(dtype)


def _run(file: Path, values: list[np.ndarray]) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    for detail, array in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
