"""Tiny language models, and their components run in PyTorch under the runner's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.core.modules import named_outputs
from edgekit.core.parts import Component, Parts
from edgekit.core.plugin import Context
from edgekit.runner import Tensor
from edgekit.runner.programs import program_class

if TYPE_CHECKING:
    import torch


class InPyTorch:
    """A component before export, as programs run it; axes that vary in a format vary here where ``static`` is false."""

    def __init__(self, part: Component, static: bool) -> None:
        self._module = part.module
        axes = {} if static else part.dynamic
        self.inputs = tuple(
            Tensor(name, array.dtype.name, tuple(axes.get(name, {}).get(axis, size) for axis, size in enumerate(array.shape)))
            for name, array in part.example.items()
        )
        self.outputs = tuple(Tensor(name, array.dtype.name, array.shape) for name, array in self.run(part.example).items())

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            found = named_outputs(self._module(**{name: torch.from_numpy(array) for name, array in inputs.items()}))
        return {name: value.numpy() for name, value in found.items()}


@pytest.fixture
def assembled() -> Any:
    """A function that divides a module and returns the program over its components."""

    def make(parts: Parts, module: torch.nn.Module, example: dict[str, np.ndarray], *, static: bool = False) -> Any:
        components = parts.divide(module, Context(example=example))
        running = {name: InPyTorch(part, static) for name, part in components.items()}
        return program_class(parts.program)(running, parts.settings(module))

    return make


@pytest.fixture(scope="session")
def decoders() -> dict[str, torch.nn.Module]:
    """Randomly initialised decoders, seeded; large weights, so that no two tokens are about as likely."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 60, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2}
    llama = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    made = {
        "llama": LlamaForCausalLM(LlamaConfig(**shape, **llama, max_position_embeddings=40)),
        "gpt2": GPT2LMHeadModel(GPT2Config(**shape, n_embd=32, n_layer=2, n_head=4, n_positions=40)),
    }
    return {name: module.eval() for name, module in made.items()}
