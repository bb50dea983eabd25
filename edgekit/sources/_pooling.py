"""Sentence encoders: a transformer and what a sentence-transformers folder says of pooling its tokens, as one module.

Reference: Reimers and Gurevych 2019, "Sentence-BERT" (arXiv:1908.10084).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekit.core.errors import SourceError
from edgekit.core.schema import Schema

if TYPE_CHECKING:
    import torch

MODULES = "modules.json"
_POOLINGS: dict[str, Literal["mean", "cls", "max"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


class Pooling(Schema):
    """From token vectors [N, L, D] to one vector a text [N, D]."""

    how: Literal["mean", "cls", "max"]
    normalize: bool


def pooling_of(folder: Path) -> Pooling | None:
    """Read what a folder says of pooling; None where it is no sentence-transformers folder.

    Raises:
        SourceError: modules that edgekit does not build, or damaged files.
    """
    if not (folder / MODULES).is_file():
        return None
    try:
        modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        kinds = {str(module["type"]).rpartition(".")[2]: module for module in modules}
        if unknown := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
            raise SourceError(
                f"{folder}: edgekit builds no module {unknown[0]!r} of sentence-transformers", hint="export it as ONNX yourself"
            )
        wanted = json.loads((folder / kinds["Pooling"]["path"] / "config.json").read_text(encoding="utf-8"))
        chosen = [name for name, value in wanted.items() if name.startswith("pooling_mode_") and value is True]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SourceError(f"{folder}: {MODULES} or what it names can't be read ({problem})", hint="fetch the folder again") from problem
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise SourceError(f"{folder}: pools by {', '.join(chosen) or 'nothing'}", hint=f"edgekit pools by one of: {', '.join(_POOLINGS)}")
    return Pooling(how=_POOLINGS[chosen[0]], normalize="Normalize" in kinds)


def pooled(encoder: Any, pooling: Pooling) -> torch.nn.Module:
    """Put pooling behind an encoder; the result gives ``sentence_embedding`` [N, D]."""
    import torch

    class SentenceEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kinds).last_hidden_state
            found = _pool(tokens, attention_mask[:, :, None].to(tokens.dtype), pooling.how)
            return {"sentence_embedding": torch.nn.functional.normalize(found, dim=1) if pooling.normalize else found}

    return SentenceEncoder()


def _pool(tokens: torch.Tensor, mask: torch.Tensor, how: str) -> torch.Tensor:
    if how == "cls":
        return tokens[:, 0]
    if how == "max":
        return (tokens * mask + (mask - 1) * 1e4).amax(dim=1)
    return (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1e-9)
