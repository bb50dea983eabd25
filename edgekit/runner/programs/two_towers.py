"""Pictures told apart by sentences: one graph reads a picture, another what each class is described by (CLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contract import Arrays, Tensor  # noqa: TID252 - also loaded under another name
from ..program import Component, Program, fixed, named  # noqa: TID252


class TwoTowers(Program):
    """Components ``image`` (``pixel_values`` to ``embedding`` [1, D]) and ``text`` (``input_ids`` [1, S] to the same); lengths are 1.

    Settings: ``prompts`` (token numbers of each class's description) and ``scale`` (of the scores). The descriptions are read once, when
    the first picture comes.
    """

    def __init__(self, components: Mapping[str, Component], settings: Mapping[str, Any]) -> None:
        super().__init__(components, settings)
        self._image, self._text = components["image"], components["text"]
        self._window = fixed(named(self._text.inputs, "input_ids"), 1)
        self._classes: np.ndarray | None = None
        pixels = named(self._image.inputs, "pixel_values")
        self.inputs = (Tensor(pixels.name, pixels.dtype, (1, *pixels.shape[1:])),)
        self.outputs = (Tensor("logits", named(self._image.outputs, "embedding").dtype, (1, len(settings["prompts"]))),)

    def run(self, inputs: Arrays) -> Arrays:
        """Score every class for a picture [1, K]: scaled cosines."""
        if self._classes is None:
            self._classes = np.concatenate([self._described(prompt) for prompt in self.settings["prompts"]])
        seen = self._image.run(inputs)["embedding"]
        return {"logits": np.asarray(seen @ self._classes.T * np.asarray(self.settings["scale"], seen.dtype))}

    def _described(self, prompt: list[int]) -> np.ndarray:
        tokens = np.zeros((1, self._window or len(prompt)), np.int64)
        tokens[0, : len(prompt)] = prompt
        return self._text.run({"input_ids": tokens})["embedding"]
