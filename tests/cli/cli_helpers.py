"""Configurations for the tests of the command line, and what a command leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from graphs import CONFIGS

CORE = CONFIGS[0]
"""Shared with other tests, so that its RTL is built once."""


def toml(**changes: object) -> str:
    """A configuration file of :data:`CORE`, changed."""
    parameters = {**CORE.to_dict(), **changes}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in parameters.items())


def left_by(out: Path) -> list[str]:
    """Names of everything in the folder of ``out``."""
    return sorted(path.name for path in out.parent.iterdir())
