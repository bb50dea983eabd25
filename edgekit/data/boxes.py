"""Reads pictures with the boxes of the objects in them, from a folder, tar or zip and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edgekit.core.datasets import Boxes, Record
from edgekit.core.errors import DataError, closest
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._images import decode
from edgekit.data._shelf import Shelf, beside, open_shelf


@dataclass(frozen=True)
class _Picture:
    name: str
    label: Boxes


class PicturesWithBoxes(Reader):
    """One picture a sample, as RGB, in the order of the JSON file, labelled with its boxes.

    The file is COCO's (``images``, ``annotations``, ``categories``; crowds are left out, classes follow the categories' ids), or a list of
    ``{file, width, height, boxes: [[x1, y1, x2, y2], ...], labels: [...]}`` in pixels.
    """

    path: str = Field(description="Folder, uncompressed .tar, or .zip with the pictures.")
    annotations: str = Field("annotations.json", description="JSON file inside or beside 'path'.")
    prefix: str = Field("", description="Folder inside 'path' that holds the pictures.")
    input: str = Field("input", description="The model's input.")

    def files(self, base: Path) -> list[Path]:
        """The archive, or every picture, and the JSON file."""
        path = expand(self.path, base)
        if not path.exists():
            return [path]
        shelf = open_shelf(path)
        outside, _ = beside(shelf, path, self.annotations)
        pictures = shelf.files([picture.name for picture in self._pictures(shelf, path)])
        return pictures if outside is None and pictures == [path] else [*pictures, outside or path / self.annotations]

    def count(self, base: Path) -> int:
        """Number of pictures."""
        path = expand(self.path, base)
        return len(self._pictures(open_shelf(path), path))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield pictures as uint8 [H, W, 3].

        Raises:
            DataError: a file that is no picture, or a damaged one.
        """
        path = expand(self.path, base)
        shelf = open_shelf(path)
        pictures = self._pictures(shelf, path)
        for index in indices:
            picture = pictures[index]
            yield Record({self.input: decode(shelf.read(picture.name), f"{path}/{picture.name}")}, picture.label)

    def classes(self, base: Path) -> tuple[str, ...]:
        """Names of COCO's categories; none for a plain list."""
        path = expand(self.path, base)
        content = self._content(open_shelf(path), path)
        return tuple(str(c["name"]) for c in _categories(content)) if isinstance(content, dict) else ()

    def _content(self, shelf: Shelf, path: Path) -> Any:
        outside, read = beside(shelf, path, self.annotations)
        where = outside or f"{path}/{self.annotations}"
        try:
            content = json.loads(read())
        except ValueError as problem:
            raise DataError(f"{where}: is not JSON ({problem})", hint="fetch it again") from problem
        return content

    def _pictures(self, shelf: Shelf, path: Path) -> list[_Picture]:
        content = self._content(shelf, path)
        try:
            entries = _of_coco(content) if isinstance(content, dict) else content
            pictures = [_Picture(f"{self.prefix}{'/' if self.prefix else ''}{e['file']}", _boxes(e)) for e in entries]
        except (KeyError, TypeError, ValueError) as problem:
            said = f"no key {problem}" if isinstance(problem, KeyError) else str(problem)
            hint = "give COCO's format, or a list of {file, width, height, boxes, labels}"
            raise DataError(f"{self.annotations}: does not describe boxes ({said})", hint=hint) from problem
        names = set(shelf.names())
        for picture in pictures:
            if picture.name not in names:
                raise DataError(f"{self.annotations}: {path} holds no {picture.name!r}", hint=closest(picture.name, names))
        return pictures


def _of_coco(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """COCO's format as the plain list."""
    index = {category["id"]: place for place, category in enumerate(_categories(content))}
    found: dict[Any, tuple[list[Any], list[int]]] = {image["id"]: ([], []) for image in content["images"]}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            x, y, width, height = annotation["bbox"]
            boxes, labels = found[annotation["image_id"]]
            boxes.append([x, y, x + width, y + height])
            labels.append(index[annotation["category_id"]])
    return [
        {"file": i["file_name"], "width": i["width"], "height": i["height"], "boxes": found[i["id"]][0], "labels": found[i["id"]][1]}
        for i in content["images"]
    ]


def _categories(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return sorted(content["categories"], key=lambda category: category["id"])


def _boxes(entry: Mapping[str, Any]) -> Boxes:
    """The label of one picture.

    Raises:
        ValueError: boxes that are none, or not as many as labels.
    """
    classes = np.array(entry["labels"], np.int64)
    corners = np.array(entry["boxes"], np.float64).reshape(-1, 4)
    if len(classes) != len(corners):
        raise ValueError(f"{entry['file']} has {len(corners)} boxes and {len(classes)} labels")
    width, height = float(entry["width"]), float(entry["height"])
    if min(width, height) <= 0 or not np.isfinite(corners).all() or (corners[:, :2] > corners[:, 2:]).any():
        raise ValueError(f"{entry['file']} has a box whose corners are not left above right below, or a size of 0")
    return Boxes(corners / np.array([width, height, width, height]), classes)
