"""Bitstreams of all boards, the digits ViT in those whose memory is block RAM.

``make boards`` runs this; the arguments are those of ``python -m intformer.boards.table``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import intformer
from examples.digits_vit.data import calibration_images
from intformer.boards import all_boards, table
from intformer.boards.board import OnChipMemory

MODEL = "examples.digits_vit.model:digits_vit"


def main(argv: list[str]) -> int:
    """Compile the model where it is embedded, then build."""
    embed: list[str] = []
    for name, board in all_boards().items():
        if isinstance(board.memory, OnChipMemory):
            out = Path("build/boards") / f"{name}-digits"
            model = intformer.compile(
                MODEL,
                config=board.preset,
                calibrate={"images": calibration_images()},
                weights="int4",
            )
            model.save(out)
            embed += ["--embed", f"{name}={out}"]
    return table.main([*embed, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
