"""Peak memory of this process, as the kernel counts it."""

from __future__ import annotations

import sys


def peak() -> int:
    """Peak resident set of this process in bytes.

    ``VmHWM`` comes first because ``ru_maxrss`` starts with what the parent process had when it forked.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - pathlib costs the boards an import
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # no procfs here: the next best source follows
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
