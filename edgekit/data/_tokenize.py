"""What a set's YAML may say under ``tokenize``: from texts to token numbers, exactly as transformers' AutoTokenizer does it.

Importing transformers takes seconds. A WordPiece tokenizer (BERT and its kin) whose files agree with each other is therefore run by the
``tokenizers`` library alone, which transformers uses underneath; everything else goes through AutoTokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from edgekit.core import digest
from edgekit.core.artifacts import Batch
from edgekit.core.errors import DataError, MissingPackageError, closest
from edgekit.core.resources import expand
from edgekit.core.schema import Schema

Encoder = Callable[[Sequence[str], Sequence[str] | None], Batch]
"""Turns N texts (and N second texts) into int64 arrays [N, length]."""

_WORDPIECE = {
    "BertTokenizer": ("input_ids", "attention_mask", "token_type_ids"),
    "BertTokenizerFast": ("input_ids", "attention_mask", "token_type_ids"),
    "DistilBertTokenizer": ("input_ids", "attention_mask"),
    "DistilBertTokenizerFast": ("input_ids", "attention_mask"),
}
_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip


class Tokenize(Schema):
    """How texts become token numbers."""

    tokenizer: str = Field("model", description="Folder with the tokenizer's files, or 'model' for the model's own folder.")
    length: int = Field(ge=2, le=1_000_000, description="Tokens at most; longer texts are cut, the longer of a pair first.")
    padding: Literal["max_length", "longest"] = Field("max_length", description="Pad all to 'length', or to the longest of a batch.")
    buckets: tuple[int, ...] = Field(
        (),
        description="With 'longest': lengths for formats with fixed shapes; a quarter, a half and all of 'length' where empty.",
    )
    labels: Literal["whole", "answers", "words"] = Field(
        "whole", description="What labels belong to: the whole sample, answers quoted from the second text, or one tag a word."
    )
    inputs: tuple[str, ...] = Field((), description="Which of the tokenizer's arrays the model takes; empty for all.")

    @model_validator(mode="after")
    def _buckets_fit(self) -> Tokenize:
        if self.buckets and self.padding != "longest":
            raise ValueError("buckets are for padding: longest")
        if any(size < 2 or size > self.length for size in self.buckets):
            raise ValueError(f"buckets must lie between 2 and the length, {self.length}")
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths for formats with fixed shapes, ascending, ``length`` always among them; empty where all samples have it."""
        if self.padding != "longest":
            return ()
        wanted = self.buckets or (self.length // 4, self.length // 2)
        return tuple(sorted({self.length, *(size for size in wanted if size > 1)}))


def tokenizer_folder(spec: Tokenize, base: Path, model: Path | None) -> Path:
    """Find the folder that holds the tokenizer.

    Raises:
        DataError: no such folder, or none of a tokenizer's files in it.
    """
    if spec.tokenizer == "model":
        if model is None:
            raise DataError("tokenizer: model needs a model's folder", hint="use a transformers model, or give the tokenizer's folder")
        folder = model if model.is_dir() else model.parent
    else:
        folder = expand(spec.tokenizer, base)
    if not any((folder / name).is_file() for name in _FILES) and not list(folder.glob("*.model")):
        raise DataError(f"{folder}: holds no tokenizer", hint="tokenizer.save_pretrained(FOLDER) writes one; set tokenize.tokenizer to it")
    return folder


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the files that decide a tokenizer's output."""
    files = [folder / name for name in _FILES if (folder / name).is_file()] + sorted(folder.glob("*.model"))
    return digest.of_json({path.name: digest.of_file(path) for path in files})


def open_tokenizer(spec: Tokenize, folder: Path) -> Encoder:
    """Load a tokenizer.

    Raises:
        DataError: damaged files, no padding token, or an input the tokenizer does not make.
        MissingPackageError: transformers is needed and does not import.
    """
    encode = _wordpiece(spec, folder) or _auto(spec, folder)
    made = encode(["edge"], None)
    for name in spec.inputs:
        if name not in made:
            raise DataError(f"tokenize.inputs: the tokenizer in {folder} makes no {name!r}", hint=closest(name, made))
    return lambda texts, pairs: {name: array for name, array in encode(texts, pairs).items() if not spec.inputs or name in spec.inputs}


def settings(folder: Path) -> dict[str, Any]:
    """What ``tokenizer_config.json`` says: on which side texts are padded and cut, say; empty where there is none."""
    try:
        content = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _wordpiece(spec: Tokenize, folder: Path) -> Encoder | None:
    """Run ``tokenizer.json`` directly, if it is a WordPiece tokenizer that says the same as ``tokenizer_config.json``."""
    config = settings(folder)
    try:
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not config or not isinstance(content, dict) or not _agree(config, content):
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(content))
    pad = _text(config.get("pad_token", "[PAD]"))
    pad_id = tokenizer.token_to_id(pad)
    if pad_id is None:
        return None
    tokenizer.enable_truncation(spec.length, direction=config.get("truncation_side", "right"))
    length = spec.length if spec.padding == "max_length" else None
    tokenizer.enable_padding(direction=config.get("padding_side", "right"), pad_id=pad_id, pad_token=pad, length=length)
    names = tuple(config.get("model_input_names") or _WORDPIECE[config["tokenizer_class"]])

    def encode(texts: Sequence[str], pairs: Sequence[str] | None) -> Batch:
        rows = tokenizer.encode_batch(list(texts) if pairs is None else list(zip(texts, pairs, strict=True)))
        made = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
        }
        return {name: np.array(values, np.int64) for name, values in made.items() if name in names}

    return encode


def _agree(config: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a tokenizer is the plain WordPiece that transformers would build from the same two files."""
    model, normalizer = content.get("model") or {}, content.get("normalizer") or {}
    template = content.get("post_processor") or {}
    return (
        config.get("tokenizer_class") in _WORDPIECE
        and (model.get("type"), model.get("continuing_subword_prefix"), model.get("max_input_chars_per_word")) == ("WordPiece", "##", 100)
        and model.get("unk_token") == _text(config.get("unk_token", "[UNK]"))
        and normalizer
        == {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        }
        and content.get("pre_tokenizer") == {"type": "BertPreTokenizer"}
        and template.get("type") == "TemplateProcessing"
        and _shape(template.get("single")) == [("[CLS]", 0), ("A", 0), ("[SEP]", 0)]
        and _shape(template.get("pair")) == [("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)]
    )


def _shape(template: Any) -> list[tuple[Any, Any]]:
    return [(part["id"], part["type_id"]) for item in template or () for part in item.values()]


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _auto(spec: Tokenize, folder: Path) -> Encoder:
    """Load through transformers; never runs code that lies beside the tokenizer."""
    try:
        from transformers import AutoTokenizer
    except ImportError as problem:
        raise MissingPackageError(f"transformers is needed for {folder} ({problem})", hint="pip install transformers") from problem
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as problem:
        said = str(problem).strip().splitlines() or [type(problem).__name__]
        raise DataError(
            f"{folder}: the tokenizer can't be loaded ({said[0]})", hint="tokenizer.save_pretrained(FOLDER) writes a whole one"
        ) from problem
    if tokenizer.pad_token is None:
        raise DataError(f"{folder}: the tokenizer has no padding token", hint="set one (tokenizer.pad_token = ...) and save it again")

    def encode(texts: Sequence[str], pairs: Sequence[str] | None) -> Batch:
        made = tokenizer(
            list(texts), list(pairs) if pairs is not None else None,
            truncation=True, max_length=spec.length, padding=spec.padding, return_tensors="np",
        )  # fmt: skip
        return {name: np.asarray(values, np.int64) for name, values in made.items()}

    return encode
