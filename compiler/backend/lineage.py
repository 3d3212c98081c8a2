"""What a view is a view of, through other views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.integer_graph import View

__all__ = ["ancestors", "derive"]

Array = NDArray[Any]


def ancestors(views: Mapping[str, View], name: str) -> Iterator[str]:
    """The views that alone determine ``name``, the nearest first; ``views`` by their outputs."""
    while name in views:
        sources = set(views[name].inputs)
        while len(sources) > 1:
            if not all(s in views and len(views[s].inputs) == 1 for s in sources):
                return
            sources = {views[s].inputs[0] for s in sources}
        (name,) = sources
        if name in views:
            yield name


def derive(views: Mapping[str, View], name: str, ancestor: str, array: Array) -> Array:
    """What the views between make of ``array``, which stands for ``ancestor``."""
    if name == ancestor:
        return array
    node = views[name]
    return np.asarray(node.apply(*(derive(views, n, ancestor, array) for n in node.inputs)))
