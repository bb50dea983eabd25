"""SST-2's training sentences with parts of them, for a student to learn its teacher's opinion of: more text of the kind, unlabelled."""

from __future__ import annotations

import random
from pathlib import Path

SHORTEST, LONGEST = 0.3, 0.9
"""Share of a sentence's words that a part has."""
FEWEST = 3
"""Words of a part; a single word may well stand among the sentences that judge."""


def sentences_and_parts(path: Path, parts: int = 2) -> list[tuple[str, None]]:
    """Return every sentence, each followed by runs of its words; the same ones every time."""
    chance = random.Random(0)
    found: list[tuple[str, None]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        sentence = line.rpartition("\t")[0]
        words = sentence.split()
        found.append((sentence, None))
        for _ in range(parts):
            length = min(len(words), max(FEWEST, round(len(words) * chance.uniform(SHORTEST, LONGEST))))
            start = chance.randrange(len(words) - length + 1)
            found.append((" ".join(words[start : start + length]), None))
    return found
