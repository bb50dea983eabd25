"""The agent: a small program that keeps models on a device, and lets in only what is signed, fits and passes its own test there.

It needs the standard library alone (Python 3.9 or later); the self-test brings in the runner and the one runtime that the model needs
anyway. So it travels as one file beside the runner (``agent.pyz``), and the host reads bundles with the same code that the device trusts.
"""

from __future__ import annotations

VERSION = 1
"""Version of bundles and commands that this agent understands; a manifest names the least that it needs."""
