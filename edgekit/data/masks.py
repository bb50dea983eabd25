"""Reads pictures with a mask beside each: a second picture of the same name, whose pixels are classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field

from edgekit.core.datasets import Mask, Record
from edgekit.core.errors import DataError
from edgekit.core.plugin import Reader
from edgekit.core.resources import expand
from edgekit.data._images import decode, decode_mask
from edgekit.data._shelf import Shelf, open_shelf
from edgekit.data.images import SUFFIXES


class PicturesWithMasks(Reader):
    """One picture a sample, as RGB, in the order of the masks' names; pictures without a mask are no part of the set."""

    path: str = Field(description="Folder, uncompressed .tar, or .zip with the pictures.")
    masks: str = Field(description="Folder, uncompressed .tar, or .zip with the masks; 255 is a pixel that does not count.")
    prefix: str = Field("", description="Folder inside 'path' that holds the pictures.")
    mask_prefix: str = Field("", description="Folder inside 'masks' that holds the masks.")
    input: str = Field("input", description="The model's input.")

    def files(self, base: Path) -> list[Path]:
        """The archives, or every picture and mask."""
        path, masks = expand(self.path, base), expand(self.masks, base)
        if not path.exists() or not masks.exists():
            return [path if not path.exists() else masks]
        pictures, shelf = open_shelf(path), open_shelf(masks)
        pairs = self._pairs(pictures, shelf)
        found = pictures.files([picture for picture, _ in pairs]) + shelf.files([mask for _, mask in pairs])
        return list(dict.fromkeys(found))

    def count(self, base: Path) -> int:
        """Number of masks."""
        return len(self._pairs(open_shelf(expand(self.path, base)), open_shelf(expand(self.masks, base))))

    def stream(self, base: Path, indices: Sequence[int]) -> Iterator[Record]:
        """Yield pictures as uint8 [H, W, 3].

        Raises:
            DataError: a file that is no picture or mask, a damaged one, or a mask of another size than its picture.
        """
        pictures, masks = open_shelf(expand(self.path, base)), open_shelf(expand(self.masks, base))
        pairs = self._pairs(pictures, masks)
        for index in indices:
            name, mask_name = pairs[index]
            pixels = decode(pictures.read(name), f"{self.path}/{name}")
            mask = decode_mask(masks.read(mask_name), f"{self.masks}/{mask_name}")
            if mask.shape != pixels.shape[:2]:
                raise DataError(
                    f"{self.masks}/{mask_name} is {list(mask.shape)}, its picture {list(pixels.shape[:2])}", hint="remake it in that size"
                )
            yield Record({self.input: pixels}, Mask(mask))

    def _pairs(self, pictures: Shelf, masks: Shelf) -> list[tuple[str, str]]:
        """Names of pictures and masks that belong together."""
        by_stem = {_stem(name, self.prefix): name for name in _named(pictures, self.prefix)}
        pairs = []
        for mask in _named(masks, self.mask_prefix):
            stem = _stem(mask, self.mask_prefix)
            if stem not in by_stem:
                raise DataError(f"{self.masks}: {mask} belongs to no picture in {self.path}", hint="a mask is called like its picture")
            pairs.append((by_stem[stem], mask))
        return pairs


def _named(shelf: Shelf, prefix: str) -> list[str]:
    start = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return [name for name in shelf.names() if name.startswith(start) and name.lower().endswith(SUFFIXES)]


def _stem(name: str, prefix: str) -> str:
    return str(PurePosixPath(name).relative_to(prefix.strip("/") or ".").with_suffix(""))
