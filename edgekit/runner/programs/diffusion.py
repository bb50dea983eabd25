"""Pictures out of noise: a text encoder, a UNet that is asked again and again what is noise, and a decoder to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contract import Arrays, Tensor  # noqa: TID252 - also loaded under another name
from ..program import Component, Program, named  # noqa: TID252


class Diffusion(Program):
    """A text encoder, a UNet and a decoder, sampled without added noise (DDIM).

    Components: ``text`` (``input_ids`` to ``hidden``), ``unet`` (``sample``, ``timestep`` and ``hidden`` to ``noise``) and ``decoder``
    (``latents`` to ``image``). References: Song et al. 2021 (arXiv:2010.02502) for DDIM, Ho and Salimans 2022 (arXiv:2207.12598) for
    guidance.

    Settings: ``steps`` (of each: timestep, remaining signal before and after), ``predicts`` (``epsilon`` or ``v_prediction``), ``clip``,
    ``guidance``, ``unconditional`` (tokens of the empty text), ``scaling`` (of the latents), ``seed`` (of the noise).
    """

    def __init__(self, components: Mapping[str, Component], settings: Mapping[str, Any]) -> None:
        super().__init__(components, settings)
        self._text, self._unet, self._decoder = (components[name] for name in ("text", "unet", "decoder"))
        self._shape = tuple(int(size) for size in named(self._unet.inputs, "sample").shape[1:])
        tokens = named(self._text.inputs, "input_ids")
        image = named(self._decoder.outputs, "image")
        self.inputs = (Tensor("input_ids", "int64", (1, *tokens.shape[1:])),)
        self.outputs = (Tensor("image", image.dtype, (1, *image.shape[1:])),)

    def run(self, inputs: Arrays) -> Arrays:
        """Draw the picture [1, 3, H, W] of a text, values from 0 to 1; the noise is the same for every text."""
        told = self._text.run({"input_ids": inputs["input_ids"]})["hidden"]
        guidance = float(self.settings["guidance"])
        untold = None
        if guidance != 1:
            untold = self._text.run({"input_ids": np.array([self.settings["unconditional"]], np.int64)})["hidden"]
        sample = _float(np.random.default_rng(int(self.settings["seed"])).standard_normal((1, *self._shape)))
        for timestep, before, after in self.settings["steps"]:
            noise = self._predicted(sample, timestep, told)
            if untold is not None:
                without = self._predicted(sample, timestep, untold)
                noise = _float(without + guidance * (noise - without))
            sample = self._step(sample, noise, before, after)
        image = self._decoder.run({"latents": _float(sample / self.settings["scaling"])})["image"]
        return {"image": np.clip(image / 2 + 0.5, 0, 1).astype(image.dtype)}

    def _predicted(self, sample: np.ndarray, timestep: int, hidden: np.ndarray) -> np.ndarray:
        return self._unet.run({"sample": sample, "timestep": np.array([timestep], np.int64), "hidden": hidden})["noise"]

    def _step(self, sample: np.ndarray, found: np.ndarray, before: float, after: float) -> np.ndarray:
        """Take away what was found to be noise, and put back as much of it as the next step expects."""
        signal, noise = before**0.5, (1 - before) ** 0.5
        if self.settings["predicts"] == "v_prediction":
            clean, found = signal * sample - noise * found, signal * found + noise * sample
        else:
            clean = (sample - noise * found) / signal
        limit = self.settings["clip"]
        if limit is not None:
            clean = np.clip(clean, -limit, limit)
        return _float(after**0.5 * clean + (1 - after) ** 0.5 * found)


def _float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)
