"""``python -m benchmarks.deploy RUN [--only PART...]``: flashes a run's model to devices on loopback, and breaks things on the way.

Needs root (the device is a user of its own), OpenSSH's server, strace for ``faults``, and for ``arm64`` an unpacked arm64 Python in
``EDGEKIT_ARM64`` (see ``arm64.py``). Writes ``benchmarks/results/deploy.json``, one key a part; what another run gave ``transfer`` stays.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from pathlib import Path

from benchmarks.deploy.server import server
from edgekit.core.machine import this_machine

RESULT = Path(__file__).parents[1] / "results" / "deploy.json"
PARTS = ("lifecycle", "transfer", "fleet", "faults", "arm64")


def main() -> None:
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    options = parser.parse_args()
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for part in options.only:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            with server(Path(folder)) as device:
                measured = importlib.import_module(f"benchmarks.deploy.{part}").measure(device, options.run, Path(folder))
        found[part] = {**found.get(part, {}), "command": f"python -m benchmarks.deploy RUN --only {part}", **measured}
        found["machine"] = this_machine().model_dump(mode="json")
        RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(json.dumps({part: found[part]}, indent=1))


if __name__ == "__main__":
    main()
