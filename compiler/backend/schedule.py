"""Order of the instructions, and the accumulator rows of every product."""

from __future__ import annotations

from intformer.compiler.backend.emit import Draft
from intformer.config import CoreConfig

__all__ = ["schedule"]


def schedule(drafts: list[Draft], config: CoreConfig) -> list[Draft]:
    """Drafts in program order, with the base of each accumulator region set."""
    _ring(drafts, config.acc_depth)
    return drafts


def _ring(drafts: list[Draft], depth: int) -> None:
    """Accumulator regions one after the other, over and over."""
    cursor = 0
    seen = set()
    for draft in drafts:
        region = draft.acc
        if region is None or id(region) in seen:
            continue
        seen.add(id(region))
        if cursor + region.rows > depth:
            cursor = 0
        region.base = cursor
        cursor += region.rows
