"""What every way to divide a model promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import ExportError
from edgekit.core.parts import Parts
from edgekit.core.plugin import Context
from edgekit.core.registry import create, load, names
from edgekit.runner.programs import program_class, program_names

OPTIONS: dict[str, dict[str, Any]] = {"two_towers": {"prompts": [[1, 2], [1, 3]]}}
"""What a plugin can't be made without."""
EXAMPLE = {"input_ids": np.array([[1, 2, 3]]), "pixel_values": np.zeros((1, 3, 8, 8), np.float32)}

pytestmark = pytest.mark.parametrize("name", names(Parts))


def test_its_program_is_one_of_the_runners(name: str) -> None:
    kind = load(Parts, name)
    assert kind.program in program_names()
    assert kind.writes == ("generate" in vars(program_class(kind.program)))


def test_a_model_of_another_kind_is_refused_with_a_hint(name: str) -> None:
    import torch

    parts = create(Parts, {"use": name, **OPTIONS.get(name, {})}, "parts")
    with pytest.raises(ExportError) as caught:
        parts.divide(torch.nn.Linear(2, 2), Context(example=EXAMPLE))
    assert caught.value.hint
