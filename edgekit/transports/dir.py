"""A folder of this machine as the device's: a mounted image in a build pipeline, or this machine itself."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import SplitResult, unquote

from pydantic import Field

from edgekit.core.errors import TargetError
from edgekit.core.transport import Transport


class Dir(Transport):
    """``dir:///mnt/rootfs/var/lib/edgekit``: the folder that holds the models, as it is mounted here."""

    folder: str = Field(description="Absolute path of the folder.")
    python: str = Field(sys.executable, description="Interpreter that has the runtimes.")

    @classmethod
    def of_url(cls, url: SplitResult) -> Dir:
        """Read ``dir:///folder``.

        Raises:
            TargetError: no absolute path, or something besides.
        """
        folder = unquote(url.path)
        if url.netloc or not Path(folder).is_absolute() or folder == "/":
            raise TargetError(f"{url.geturl()}: names no folder", hint="write dir:///absolute/folder, with three slashes")
        if url.query or url.fragment:
            raise TargetError(f"{url.geturl()}: a folder has no options", hint="write %3F and %23 for ? and # in its name")
        return cls(folder=folder)

    def shell(self, script: str) -> list[str]:
        """Run the script here."""
        return ["sh", "-c", script]

    def explain(self, said: str) -> tuple[str, str]:
        """Nothing is between here and there; what was said is all there is."""
        return said or "it ended without a word", "check the folder and its permissions"
