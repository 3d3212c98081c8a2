"""Canonical form of the float graph: fewer, simpler nodes with the same result.

The passes, in order: sums with zeros go; vectors behind norms fold into them, and RMSNorm becomes a
LayerNorm; scaling by numbers moves into the consumers; slices move up to the products that make
what they cut, which then compute just that part; chains of views become at most one reshape and one
permutation; element-wise operations move in front of views, whose chains are merged again; vectors
after a linear layer fold into it; unused nodes go.
"""

from __future__ import annotations

import copy

from intformer.compiler import graph as fg
from intformer.compiler.canonical.constants import join_constants
from intformer.compiler.canonical.elementwise import lift_elementwise
from intformer.compiler.canonical.linears import fold_vectors, split_linears
from intformer.compiler.canonical.norms import expand_rms_norms, fold_norm_vectors
from intformer.compiler.canonical.scales import sink_scales
from intformer.compiler.canonical.slices import lift_slices
from intformer.compiler.canonical.views import merge_views, remove_unused
from intformer.compiler.canonical.zeros import drop_zeros

__all__ = ["canonicalize"]


def canonicalize(graph: fg.Graph) -> fg.Graph:
    """Return the canonical form of ``graph``, which is left as it is."""
    result = copy.copy(graph)
    result.values = dict(graph.values)
    result.nodes = [copy.copy(node) for node in graph.nodes]
    result.inputs, result.outputs = list(graph.inputs), list(graph.outputs)
    result.meta = dict(graph.meta)
    drop_zeros(result)
    fold_norm_vectors(result)
    expand_rms_norms(result)
    sink_scales(result)
    join_constants(result)
    remove_unused(result)
    lift_slices(result)
    remove_unused(result)
    split_linears(result)
    merge_views(result)
    remove_unused(result)
    lift_elementwise(result)
    merge_views(result)
    remove_unused(result)
    fold_vectors(result)
    remove_unused(result)
    return result
