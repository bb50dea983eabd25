"""Signed bundles of a run for the measurements: good ones, and one whose model computes something else on every device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.deploy import bundle as making
from edgekit.deploy import samples
from edgekit.deploy.bundle import Source, Wish, make_bundle, open_run
from edgekit.deploy.keys import KeyFolder
from edgekit.runner import protocol


class Builder:
    """Makes bundles of one run, signed by a key of its own."""

    def __init__(self, run: Path, work: Path, target: str | None = None) -> None:
        self._source: Source = open_run(run, target)
        self._keys = KeyFolder(work / "keys")
        self._work = work
        if not self._keys.chain():
            self._keys.create("release", lambda name, new: None)
        self._secret = {"release": self._keys.secret("release", lambda name, new: None)}

    @property
    def root(self) -> Any:
        """The root that devices are to trust."""
        return self._keys.root()

    def make(self, version: int, **wish: Any) -> Path:
        """Make a bundle; one of another label differs in nothing else."""
        path = self._work / f"{version}-{len(list(self._work.glob('*.edgekit')))}.edgekit"
        make_bundle(self._source, Wish(version=version, **wish), path, roots=self._keys.chain(), keys=self._secret)
        return path

    def bad(self, version: int) -> Path:
        """Make a correctly signed bundle whose model does not compute what its self-test expects."""
        honest = samples.record

        def wrong(*given: Any) -> tuple[bytes, samples.Facts]:
            data, facts = honest(*given)
            frames, view = [], memoryview(data)
            position = 0

            def fill(into: memoryview) -> int:
                nonlocal position
                count = min(len(into), len(view) - position)
                into[:count] = view[position : position + count]
                position += count
                return count

            while (frame := protocol.unpack(fill)) is not None:
                arrays = frame[1] if len(frames) % 2 == 0 else {key: value + np.ptp(value) for key, value in frame[1].items()}
                frames.append(b"".join(map(bytes, protocol.pack({}, arrays))))
            return b"".join(frames), replace(facts)

        making.samples.record = wrong
        try:
            return self.make(version)
        finally:
            making.samples.record = honest
