"""The compiler's back end: integer graph to program."""

from intformer.compiler.backend.build import build_program

__all__ = ["build_program"]
