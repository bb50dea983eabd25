"""Key-value caches as plain tensors: what lets a decoder's step be a graph with named inputs and outputs.

A cache tensor is [batch, places, heads, head size], places before heads, so that the first n places of a single sequence lie together
in memory and a runner can hand in so many without copying. A step takes the cache with a free place for its token, computes as if the
token's key and value stood there, and gives back these alone. So nothing that was handed in is handed back, the graph serves caches
of a fixed and of a growing length, and a model that derives relative positions from places (T5) sees the right ones.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Pair = tuple["torch.Tensor", "torch.Tensor"]
"""Key and value of a layer."""
NEW = "new_"
"""In front of the name of a cache's tensor: what a graph adds to it."""


@cache
def _layer_class() -> Any:
    from transformers.cache_utils import CacheLayerMixin

    class Layer(CacheLayerMixin):  # type: ignore[misc]  # the library is untyped
        """One layer's share of a cache: takes note of what is added, and shows it in its place."""

        is_sliding = False
        is_croppable = False

        def __init__(self, given: Pair | None, position: torch.Tensor | int) -> None:
            super().__init__()
            self.position = position
            self.added: Pair | None = None
            self._given = given is not None
            if given is not None:
                self.keys, self.values = (side.transpose(1, 2) for side in given)

        def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
            """Nothing to do: the tensors are given."""

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Pair:
            """Note the new keys and values [batch, heads, tokens, head size]; return all of them."""
            import torch

            self.added = key_states.transpose(1, 2), value_states.transpose(1, 2)
            if not self._given:
                return key_states, value_states
            free = (torch.arange(self.keys.shape[2]) == self.position)[None, None, :, None].to(key_states.dtype)
            # A choice between two tensors of other shapes is slow in LiteRT; products and sums by 0 and 1 are as exact.
            return self.keys * (1 - free) + key_states * free, self.values * (1 - free) + value_states * free

        def get_seq_length(self) -> torch.Tensor | int:
            """Place of the first new token."""
            return self.position

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            """Number of places, from the first on."""
            return (self.keys.shape[2] if self._given else query_length), 0

        def get_max_length(self) -> int:
            """No limit of its own."""
            return -1

    return Layer


def made(given: list[Pair] | int, position: torch.Tensor | int = 0) -> Any:
    """Make a cache of given tensors, or an empty one of so many layers.

    Args:
        given: key and value of each layer, [batch, places, heads, head size]; or the number of layers.
        position: place of the token that is added, a tensor [1].
    """
    from transformers.cache_utils import Cache

    layers = [None] * given if isinstance(given, int) else given
    return Cache(layers=[_layer_class()(pair, position) for pair in layers])


def of_both(own: Any, cross: Any, *, filled: bool) -> Any:
    """Join the caches of a decoder's own attention and of its attention to an encoder; ``filled`` where the latter is known."""
    from transformers.cache_utils import EncoderDecoderCache

    joined = EncoderDecoderCache(own, cross)
    joined.is_updated = dict.fromkeys(range(len(cross.layers)), filled)
    return joined


def added(cache: Any, prefix: str = NEW) -> dict[str, torch.Tensor]:
    """What a model added to a cache, by name: ``new_key_0``, ``new_value_0``, ``new_key_1``, ..."""
    return {f"{prefix}{side}_{i}": layer.added[n] for i, layer in enumerate(cache.layers) for n, side in enumerate(("key", "value"))}


def pairs(tensors: dict[str, torch.Tensor], prefix: str = "") -> list[Pair]:
    """Sort named tensors into pairs by layer."""
    count = sum(name.startswith(f"{prefix}key_") for name in tensors)
    return [(tensors[f"{prefix}key_{i}"], tensors[f"{prefix}value_{i}"]) for i in range(count)]


def names(layers: int, prefix: str = "") -> list[str]:
    """Names of a cache's tensors in the order in which graphs take and give them."""
    return [f"{prefix}{side}_{i}" for i in range(layers) for side in ("key", "value")]


def causal(places: int, dtype: Any) -> torch.Tensor:
    """Additive mask [1, 1, S, S] that lets each place see itself and what stands before it."""
    import torch

    order = torch.arange(places)
    return _hidden(order[None, :] > order[:, None], dtype)[None, None]


def until(places: int, position: torch.Tensor, dtype: Any) -> torch.Tensor:
    """Additive mask [1, 1, 1, S] that lets a token see the places up to its own."""
    import torch

    return _hidden(torch.arange(places) > position, dtype)[None, None, None]


def padding(mask: torch.Tensor, dtype: Any) -> torch.Tensor:
    """Additive mask [N, 1, 1, S] of a mask [N, S] that is 0 where there is padding."""
    return _hidden(mask == 0, dtype)[:, None, None]


def _hidden(where: torch.Tensor, dtype: Any) -> torch.Tensor:
    import torch

    return torch.where(where, torch.finfo(dtype).min, 0.0).to(dtype)


def stops(module: torch.nn.Module) -> list[int]:
    """Tokens that end a text, by the model's own settings for generation."""
    for settings in (getattr(module, "generation_config", None), module.config):
        found = getattr(settings, "eos_token_id", None)
        if found is not None:
            return [int(token) for token in found] if isinstance(found, list | tuple) else [int(found)]
    return []
