"""Several fixed lengths in one flatbuffer: a graph and a signature for each, the weights stored once.

The accelerated kernels run fixed shapes only. So a model whose inputs vary in length is converted for a few lengths, and the runner
chooses the smallest that fits and pads to it (``edgekit/runner/runtimes/_buckets.py`` reads the signatures' keys).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.datasets import DataSet
from edgekit.core.errors import ExportError
from edgekit.runner.runtimes._buckets import KEY

if TYPE_CHECKING:
    from edgekit.core.artifacts import Batch


def merged(models: Mapping[int, Any]) -> Any:
    """Return one model with a graph for each length, the longest first.

    Raises:
        ExportError: a graph calls other graphs, as loops do.
    """
    lengths = sorted(models, reverse=True)
    made = copy.copy(models[lengths[0]])
    made.operatorCodes, made.subgraphs, made.signatureDefs = [], [], []
    made.metadata, made.metadataBuffer = [], []
    store = _Store()
    for place, length in enumerate(lengths):
        model = models[length]
        if len(model.subgraphs) > 1:
            raise ExportError("a model with loops can't be converted for several lengths", hint="pad all samples: padding: max_length")
        codes = [_code(made.operatorCodes, code) for code in model.operatorCodes]
        graph = copy.deepcopy(model.subgraphs[0])
        for node in graph.operators:
            node.opcodeIndex = codes[node.opcodeIndex]
        for tensor in graph.tensors:
            tensor.buffer = store.kept(model.buffers[tensor.buffer])
        signature = copy.deepcopy(next(s for s in model.signatureDefs if s.subgraphIndex == 0))
        signature.subgraphIndex, signature.signatureKey = place, KEY.format(length).encode()
        made.subgraphs.append(graph)
        made.signatureDefs.append(signature)
    made.buffers = store.buffers
    return made


def parted(model: Any) -> dict[int, Any]:
    """Take a model of several lengths apart: one with a single graph for each."""
    found = {}
    for signature in model.signatureDefs:
        part = copy.copy(model)
        part.subgraphs = [copy.deepcopy(model.subgraphs[signature.subgraphIndex])]
        alone = copy.deepcopy(signature)
        alone.subgraphIndex = 0
        part.signatureDefs = [alone]
        found[int(signature.signatureKey.decode().rpartition("_")[2])] = part
    return found


class _Store:
    """Buffers of the merged model; equal contents are stored once, buffer 0 is the empty one."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._empty = schema.BufferT
        self.buffers: list[Any] = [schema.BufferT()]
        self._places: dict[bytes, int] = {}

    def kept(self, buffer: Any) -> int:
        if buffer.data is None or not len(buffer.data):
            return 0
        content = bytes(buffer.data)
        if content not in self._places:
            self._places[content] = len(self.buffers)
            mine = self._empty()
            mine.data = np.frombuffer(content, np.uint8)
            self.buffers.append(mine)
        return self._places[content]


def _code(known: list[Any], wanted: Any) -> int:
    for place, code in enumerate(known):
        if (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version) == (
            wanted.builtinCode,
            wanted.deprecatedBuiltinCode,
            wanted.customCode,
            wanted.version,
        ):
            return place
    known.append(copy.copy(wanted))
    return len(known) - 1


def fitted(batch: Batch, varying: Mapping[str, Mapping[int, str]], length: int) -> Batch:
    """Bring a batch to a length: cut behind, or padded with zeros."""
    made = {}
    for name, array in batch.items():
        for axis in varying.get(name, {}):
            array = array[(slice(None),) * axis + (slice(length),)]
            missing = length - array.shape[axis]
            array = np.pad(array, [(0, missing if place == axis else 0) for place in range(array.ndim)])
        made[name] = array
    return made


class Fitted(DataSet):
    """A set whose samples are brought to one length: padded, or cut behind."""

    def __init__(self, data: DataSet, length: int) -> None:
        self._data = data
        self._length = length
        self.name = data.name
        self.classes = data.classes

    @property
    def digest(self) -> str:
        """The set's own, with the length."""
        return f"{self._data.digest}-{self._length}"

    @property
    def provenance(self) -> dict[str, Any]:
        """The set's own, with the length."""
        return {**self._data.provenance, "fitted_to": self._length}

    def __len__(self) -> int:
        return len(self._data)

    def batches(self, size: int = 1, limit: int | None = None) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield the set's batches at that length."""
        for batch, labels in self._data.batches(size, limit):
            yield fitted(batch, self._data.varying, self._length), labels

    def sample_digests(self) -> Iterator[str]:
        """Yield the set's own."""
        return self._data.sample_digests()

    def metadata(self) -> list[dict[str, str]]:
        """The set's own."""
        return self._data.metadata()


def check_masked(names: Sequence[str]) -> None:
    """Refuse inputs of which none tells padding from content.

    Raises:
        ExportError: there is no attention mask.
    """
    if "attention_mask" not in names:
        raise ExportError(
            "lengths vary and the model takes no attention_mask: padding would change its results",
            hint="let the data set give an attention_mask, or pad all samples alike: padding: max_length",
        )
