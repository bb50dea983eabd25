"""The stories260K Llama of llama2.c: weights and tokenizer read from their own binary files.

Source: karpathy/llama2.c, ``export.py`` (version 0) and ``run.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from transformers import LlamaForCausalLM

BOS, EOS, FIRST_BYTE = 1, 2, 3


@dataclass(frozen=True)
class Tokenizer:
    """Byte-pair encoding that always merges the pair with the best score.

    Attributes:
        tokens: bytes of each token.
        scores: what a merge that makes the token is worth.
    """

    tokens: tuple[bytes, ...]
    scores: tuple[float, ...]

    @staticmethod
    def read(path: Path) -> Tokenizer:
        """Read ``tok512.bin``: the longest token's length, then score, length and bytes of each."""
        content = path.read_bytes()
        tokens, scores, place = [], [], 4
        while place < len(content):
            score, length = struct.unpack_from("<fi", content, place)
            tokens.append(content[place + 8 : place + 8 + length])
            scores.append(score)
            place += 8 + length
        return Tokenizer(tuple(tokens), tuple(scores))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text after BOS; a space is put in front, unknown characters become bytes."""
        known = {token: number for number, token in reversed(list(enumerate(self.tokens)))}
        numbers: list[int] = []
        for character in f" {text}" if text else "":
            raw = character.encode()
            numbers += [known[raw]] if raw in known else [byte + FIRST_BYTE for byte in raw]
        while True:
            pairs = [(known.get(self.tokens[a] + self.tokens[b]), i) for i, (a, b) in enumerate(pairwise(numbers))]
            best = max(((self.scores[made], -i, made) for made, i in pairs if made is not None), default=None)
            if best is None:
                return [BOS, *numbers]
            numbers[-best[1] : -best[1] + 2] = [best[2]]

    def decode(self, numbers: list[int]) -> str:
        """Return the text of tokens, without BOS and the space in front."""
        said = b"".join(bytes([n - FIRST_BYTE]) if FIRST_BYTE <= n < FIRST_BYTE + 256 else self.tokens[n] for n in numbers if n > EOS)
        return said.decode(errors="replace").removeprefix(" ")


def read_model(path: Path) -> LlamaForCausalLM:
    """Read ``stories260K.bin`` as a Transformers Llama.

    llama2.c turns neighbouring pairs of a head's dimensions, Transformers turns each with the one half a head away: the rows of the
    query and key projections are reordered.
    """
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    content = path.read_bytes()
    width, hidden, layers, heads, kv_heads, vocabulary, length = struct.unpack_from("<7i", content)
    values = np.frombuffer(content, np.float32, offset=28)
    kv = width // heads * kv_heads
    place = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal place
        start, place = place, place + int(np.prod(shape))
        return values[start:place].reshape(shape)

    def halves(matrix: np.ndarray, count: int) -> np.ndarray:
        return matrix.reshape(count, -1, 2, width).swapaxes(1, 2).reshape(-1, width)

    state = {"model.embed_tokens.weight": take(vocabulary, width)}
    stacked = {
        "input_layernorm": take(layers, width),
        "self_attn.q_proj": take(layers, width, width),
        "self_attn.k_proj": take(layers, kv, width),
        "self_attn.v_proj": take(layers, kv, width),
        "self_attn.o_proj": take(layers, width, width),
        "post_attention_layernorm": take(layers, width),
        "mlp.gate_proj": take(layers, hidden, width),
        "mlp.down_proj": take(layers, width, hidden),
        "mlp.up_proj": take(layers, hidden, width),
    }
    for name, matrices in stacked.items():
        for layer, matrix in enumerate(matrices):
            turned = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}.get(name)
            state[f"model.layers.{layer}.{name}.weight"] = halves(matrix, turned) if turned else matrix
    state["model.norm.weight"] = take(width)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=abs(vocabulary),
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{path}: {missing} missing, {unexpected} unexpected")
    model.tie_weights()
    return model.eval()
