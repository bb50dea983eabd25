"""Gives biases one axis: a transposed convolution that took in a batch norm has [1, 1, 1, C], which the quantizer scales along axis 0."""

from __future__ import annotations

from typing import Any

from edgekit.core import tflite_model

BIAS = 3
"""Place of the bias among the inputs of TRANSPOSE_CONV."""


def flatten_biases(model: Any) -> None:
    """Store as [C] what only transposed convolutions read as their bias.

    Args:
        model: the flatbuffer's object tree; it is changed.
    """
    tensors = model.subgraphs[0].tensors
    biases: set[int] = set()
    others: set[int] = set()
    for node in model.subgraphs[0].operators:
        transposed = tflite_model.operator_name(model, node) == "TRANSPOSE_CONV"
        for place, index in enumerate(node.inputs):
            (biases if transposed and place == BIAS else others).add(int(index))
    for index in biases - others:
        if tflite_model.constant(model, index) is not None:
            tensors[index].shape = [max(tensors[index].shape)]
            tensors[index].shapeSignature = None
