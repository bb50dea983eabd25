from __future__ import annotations

import pytest

from edgekit.core import registry
from edgekit.core.errors import RecipeError
from edgekit.core.plugin import Exporter, Plugin, Quantizer, Source


@pytest.mark.parametrize("contract", list(registry.SLOTS), ids=lambda c: registry.SLOTS[c])
def test_every_file_of_a_slot_is_a_plugin_of_that_name(contract: type[Plugin]) -> None:
    for name in registry.names(contract):
        plugin = registry.load(contract, name)
        assert registry.name_of(plugin) == name
        assert registry.qualified(plugin) == f"{registry.SLOTS[contract]}.{name}"
        assert plugin.__doc__


def test_unknown_plugin_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="transformers"):
        registry.load(Source, "transformer")


def test_options_are_checked() -> None:
    assert registry.create(Exporter, {"use": "onnx", "opset": 18}, "x").model_dump() == {"opset": 18}
    with pytest.raises(RecipeError, match="opset"):
        registry.create(Exporter, {"use": "onnx", "opse": 18}, "x")
    with pytest.raises(RecipeError, match="says not which"):
        registry.create(Exporter, {"opset": 18}, "x")


def test_quantizers_are_found_by_format_and_precision() -> None:
    assert registry.quantizers_for("onnx", "int8-static") == ["onnx_int8_static"]
    assert registry.quantizers_for("onnx", "int3") == []
    pairs = [(q.accepts, q.precision) for q in (registry.load(Quantizer, n) for n in registry.names(Quantizer))]
    assert len(pairs) == len(set(pairs))
