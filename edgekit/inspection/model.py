"""What an inspection finds: the same words for every format."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field

from edgekit.core.schema import Schema

Shape = tuple[int | str, ...]


class TensorInfo(Schema):
    """An input or output."""

    name: str
    dtype: str = Field(description="NumPy's word.")
    shape: Shape | None = Field(description="A string is a symbolic axis, '?' a nameless one; None where the file is silent.")


class LayerInfo(Schema):
    """One node of a graph, or one tensor of a checkpoint."""

    name: str
    operator: str = Field(description="Operator of the format, with its domain where it is not the standard one; '' for a tensor.")
    shape: Shape | None = Field(None, description="Shape of the first output; None where it is unknown.")
    parameters: int = Field(0, description="Weights that the layer reads; a shared one counts for every reader.")
    macs: int | None = Field(
        None, description="Multiply-accumulates of one inference at batch 1; None where a needed size varies or the operator has none."
    )
    precision: str = Field(
        "", description="fp32, fp16, bf16, int8, or 'int8 weights' for integers that are computed in float; '' for plumbing."
    )
    computes: bool = Field(False, description="Convolution, matrix product, recurrent layer or embedding: where time and size go.")


class Quantization(Schema):
    """How a model is quantized."""

    kind: Literal["static", "dynamic", "weights"] = Field(description="Activation ranges fixed, found at run time, or weights only.")
    activations: tuple[str, ...] = Field((), description="Integer types of the activations.")
    weights: tuple[str, ...] = Field((), description="Integer types of the weights.")
    symmetric: bool | None = Field(None, description="Whether all activations have zero-point 0; None where that is not known.")
    per_channel: bool = Field(False, description="Whether any weight has a scale for each channel.")
    full_range: bool | None = Field(None, description="Whether any 8-bit weight needs more than 7 bits; None where weights were not read.")


class Concern(Schema):
    """One thing that stands between a model and a runtime of a target."""

    severity: Literal["stops", "slows"] = Field(description="Can't run or is wrong there; or runs, but not in the precision of the file.")
    message: str
    layers: tuple[str, ...] = Field((), description="Layers concerned.")


class BackendFit(Schema):
    """How a model and one runtime of a target go together."""

    runtime: str
    concerns: tuple[Concern, ...]

    @property
    def runs(self) -> bool:
        """Whether nothing stops the model."""
        return all(concern.severity != "stops" for concern in self.concerns)


class TargetFit(Schema):
    """How a model and a target go together."""

    target: str
    backends: tuple[BackendFit, ...] = Field(description="Runtimes of the target that load this format, preferred first.")
    problem: str = Field("", description="Why no runtime of the target loads this format.")

    @property
    def runs(self) -> bool:
        """Whether any runtime of the target runs the model."""
        return any(backend.runs for backend in self.backends)


class Advice(Schema):
    """Where to start with compressing a model."""

    preset: str = Field(description="Preset of 'edgekit compress'; empty where none fits.")
    reason: str


class Inspection(Schema):
    """What a model file says about itself."""

    schema_version: Literal[1] = Field(1, alias="schema")
    path: str
    format: str = Field(description="onnx, openvino, tflite, or the kind of checkpoint.")
    size: int = Field(description="Bytes on disk, companions included.")
    files: tuple[str, ...] = Field(description="Files that belong to the model, by name.")
    parameters: int = Field(description="Weights, each counted once; without quantization scales, zero points and shape constants.")
    macs: int | None = Field(None, description="Sum over the computing layers; None for a checkpoint, or where one of them is unknown.")
    opset: int | None = Field(None, description="Version of the operator set, where the format has one.")
    producer: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    operators: dict[str, int] = Field(default_factory=dict, description="How often each operator occurs, the most frequent first.")
    precisions: dict[str, int] = Field(default_factory=dict, description="Computing layers (tensors of a checkpoint) by precision.")
    quantization: Quantization | None = Field(None, description="None for a float model.")
    layers: tuple[LayerInfo, ...] = ()
    notes: tuple[str, ...] = ()
    memory: int | None = Field(
        None, description="Estimated bytes of weights and activations at batch 1, without the runtime's own; None where shapes are unknown."
    )
    advice: Advice | None = Field(None, description="Recommended preset.")
    fit: TargetFit | None = Field(None, description="Where a target was named.")


def counted(names: list[str]) -> dict[str, int]:
    """Count names, the most frequent first, equal ones by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def precisions(layers: list[LayerInfo]) -> dict[str, int]:
    """Count the computing layers by precision."""
    return counted([layer.precision for layer in layers if layer.computes])


def total_macs(layers: list[LayerInfo]) -> int | None:
    """Sum the MACs; None where a computing layer's are unknown, for a part of them would mislead."""
    known = [layer.macs for layer in layers if layer.computes]
    return None if None in known or not known else sum(n for n in known if n is not None)


def elements(shape: Shape | None) -> int | None:
    """Number of elements at batch 1: a varying first axis counts as 1, any other varying axis makes the number unknown."""
    if shape is None:
        return None
    total = 1
    for axis, length in enumerate(shape):
        if not isinstance(length, int) or length < 0:
            if axis:
                return None
            length = 1
        total *= length
    return total
