"""Collects what cannot be mapped, so that the user hears of all of it at once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from intformer.errors import UnsupportedModel

__all__ = ["Issues", "Unsupported", "module_path", "source_line"]


class Unsupported(Exception):
    """Raised by a lowering rule: why an operation cannot be mapped, and what would work."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why = why
        self.instead = instead


def module_path(node: Any) -> str:
    """Path of the innermost module that an FX node comes from, such as ``blocks.0.norm1``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = ""
    for name, _type in stack.values():
        path = name or path
    return re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path)


def source_line(node: Any) -> str:
    """``file:line`` of the user's code that an FX node comes from, or an empty string."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    if not frames:
        return ""
    path, line = ([f for f in frames if "/torch/" not in f[0]] or frames)[-1]
    near = os.path.relpath(path)
    return f"{path if near.startswith('..') else near}:{line}"


@dataclass(frozen=True)
class _Issue:
    op: str
    path: str
    line: str
    why: str
    instead: str

    def __str__(self) -> str:
        place = self.path or "in the top module"
        line = f" ({self.line})" if self.line else ""
        return f"  {self.op} {place}{line}\n    why: {self.why}\n    instead: {self.instead}"


class Issues:
    """A list of unsupported operations; ``problems`` has what is wrong with each FX node."""

    def __init__(self) -> None:
        self._issues: list[_Issue] = []
        self.problems: dict[Any, Unsupported] = {}

    def add(self, op: str, node: Any, problem: Unsupported) -> None:
        """Record that ``op``, the FX node ``node``, cannot be mapped."""
        self.problems[node] = problem
        self._issues.append(
            _Issue(
                op,
                f"in module {path}" if (path := module_path(node)) else "",
                source_line(node),
                problem.why,
                problem.instead,
            )
        )

    def add_node(self, op: str, name: str, problem: Unsupported) -> None:
        """Record that ``op``, an ONNX node called ``name``, cannot be mapped."""
        self._issues.append(_Issue(op, f"in node {name}", "", problem.why, problem.instead))

    def raise_if_any(self) -> None:
        """Raise one :class:`~intformer.errors.UnsupportedModel` that lists everything."""
        if not self._issues:
            return
        count = len(self._issues)
        what = "1 operation" if count == 1 else f"{count} operations"
        lines = "\n".join(str(issue) for issue in self._issues)
        raise UnsupportedModel(f"the model has {what} that cannot be mapped:\n{lines}")
