"""The boards: every module of this folder that has a ``BOARD`` is one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from intformer.errors import UserError

if TYPE_CHECKING:
    from intformer.boards.board import Board

__all__ = ["all_boards", "find_board"]


@cache
def all_boards() -> dict[str, Board]:
    """Every board by its name, in the order of names."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        one = getattr(importlib.import_module(f"{__name__}.{module.name}"), "BOARD", None)
        if one is not None:
            found.append(one)
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def find_board(name: str) -> Board:
    """The board of that name.

    Raises
    ------
    UserError
        If there is none; the message lists those that there are.
    """
    if name not in all_boards():
        raise UserError(f"board must be one of {', '.join(all_boards())}, not {name!r}")
    return all_boards()[name]
