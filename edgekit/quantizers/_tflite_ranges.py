"""Ranges of a TFLite graph's tensors with the least mean squared error, judged after the activation function that follows."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgekit.algorithms import activations
from edgekit.algorithms.ranges import INT8, Histogram, best_range, thinned
from edgekit.core import tflite_model

if TYPE_CHECKING:
    import numpy as np

    from edgekit.algorithms.activations import Function
    from edgekit.core.artifacts import Artifact

COUNTED = 1_000_000
"""Values of a tensor that a histogram counts at least, where there are so many; spread evenly over samples and axes."""
FUNCTIONS: dict[str, Function] = {
    "RELU": activations.clip(0, math.inf),
    "RELU6": activations.clip(0, 6),
    "RELU_N1_TO_1": activations.clip(-1, 1),
    "RELU_0_TO_1": activations.clip(0, 1),
    "ELU": activations.elu(1.0),
    "HARD_SWISH": activations.hard_swish,
    "LOGISTIC": activations.sigmoid,
    "TANH": activations.tanh,
    "GELU": activations.gelu,
}


class LeastError:
    """Histograms of all tensors, of which the range with the least mean squared error is chosen; outputs keep all their values."""

    def __init__(self, model: Artifact, samples: int) -> None:
        graph = tflite_model.read(model.model)
        self._functions = following_functions(graph)
        tensors = graph.subgraphs[0].tensors
        self._outputs = {tensors[index].name.decode() for index in graph.subgraphs[0].outputs}
        self._limit = math.ceil(COUNTED / samples)
        self._histograms: dict[str, Histogram] = {}

    def see(self, values: dict[str, np.ndarray]) -> None:
        """Count one sample's values."""
        for name, array in values.items():
            self._histograms.setdefault(name, Histogram()).add(array, thinned(array, self._limit))

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return each tensor's range."""
        return {
            name: (histogram.low, histogram.high) if name in self._outputs else best_range(histogram, INT8, self._functions.get(name))
            for name, histogram in self._histograms.items()
        }


def following_functions(model: Any) -> dict[str, Function]:
    """Activation functions by the tensor that goes through them and nowhere else."""
    graph = model.subgraphs[0]
    readers = Counter(int(index) for node in graph.operators for index in node.inputs)
    readers.update(int(index) for index in graph.outputs)
    found = {}
    for layer in tflite_model.layers(model):
        function = (
            activations.leaky_relu(layer.node.builtinOptions.alpha) if layer.operator == "LEAKY_RELU" else FUNCTIONS.get(layer.operator)
        )
        if function is not None and readers[int(layer.node.inputs[0])] == 1:
            found[graph.tensors[layer.node.inputs[0]].name.decode()] = function
    return found
