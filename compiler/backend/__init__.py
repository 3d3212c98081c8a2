"""The compiler's back end: integer graph to program.

The steps, each in its module:

- ``storage`` (with ``uses``, ``layout``, ``allocate``): where every tensor lies. Views are index
  arrays and move nothing; ``affine`` turns what must move into loops.
- ``lower_matmul``, ``lower_post``, ``lower_row``, ``lower_io``: nodes to drafts of instructions
  (``emit``); ``image`` lays out weights, parameters and tables in external memory.
- ``schedule`` (with ``dependencies``, ``prefetch``): the order of the instructions.
- ``tokens``: the dependency tokens that make it safe.
- ``build``: all of it, and the :class:`~intformer.program.Program`.
"""

from intformer.compiler.backend.build import build_program

__all__ = ["build_program"]
