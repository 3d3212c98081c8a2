"""The PyTorch frontend: ``torch.export`` programs to the float graph."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from intformer.compiler import graph as fg
from intformer.errors import UserError

__all__ = ["exported", "load"]


def load(model: Any) -> fg.Graph:
    """Return the float graph of a PyTorch model.

    Parameters
    ----------
    model:
        Path of a ``torch.export`` archive (``.pt2``); ``"module.path:factory"``, called without
        arguments, returning the module and a tuple of example inputs (the working directory is
        importable); or a pair ``(torch.nn.Module, example inputs)``.

    Raises
    ------
    UnsupportedModel
        The message lists every operation that cannot be mapped: its name, place in the model,
        why, and what would work.
    UserError
        The model cannot be found, loaded or exported.
    """
    _require_torch()
    from intformer.compiler.frontend.lowering import lower

    program, label = exported(model)
    graph = lower(program)
    graph.meta["model"] = label
    return graph


def exported(model: Any) -> tuple[Any, str]:
    """The exported program that :func:`load` lowers, and a name for the model.

    It is functional (nothing is changed in place), and otherwise as it was written: composite
    operations such as linear layers and attention stay whole.
    """
    _require_torch()
    if isinstance(model, tuple):
        program, label = _export(*_checked_pair(model, "the model")), type(model[0]).__name__
    elif str(model).endswith(".pt2"):
        program, label = _load_archive(Path(model)), Path(model).stem
    elif isinstance(model, str | os.PathLike) and all(str(model).partition(":")):
        program, label = _export(*_call_factory(str(model))), str(model)
    else:
        raise UserError(
            f"model must be a .pt2 archive, module.path:factory, or (module, inputs), not {model!r}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions({}), label


def _require_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise UserError(f"this needs PyTorch ({error}): pip install 'intformer[torch]'") from None


def _load_archive(path: Path) -> Any:
    import torch

    if not path.is_file():
        raise UserError(f"no such model archive: {path}")
    with contextlib.suppress(ImportError):  # the operations of quantized programs
        importlib.import_module("torch.ao.quantization.fx._decomposed")
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would tell of damaged archives beside our message
    try:
        return torch.export.load(path)
    except Exception as error:  # torch raises many kinds for damaged archives
        raise UserError(f"cannot read {path} as a torch.export archive: {error}") from None
    finally:
        logger.setLevel(level)


def _call_factory(spec: str) -> tuple[Any, tuple[Any, ...]]:
    module_name, _, attribute = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise UserError(f"cannot import {module_name!r} of {spec!r}: {error}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise UserError(f"module {module_name!r} has no function {attribute!r}")
    try:
        result = factory()
    except Exception as error:
        raise UserError(f"{spec} failed: {type(error).__name__}: {error}") from error
    return _checked_pair(result, spec)


def _checked_pair(result: Any, spec: str) -> tuple[Any, tuple[Any, ...]]:
    import torch

    good = (
        isinstance(result, tuple)
        and len(result) == 2
        and isinstance(result[0], torch.nn.Module)
        and isinstance(result[1], tuple | list)
    )
    if not good:
        raise UserError(
            f"{spec} must give a torch.nn.Module and a tuple of example inputs, "
            f"not {type(result).__name__}"
        )
    return result[0], tuple(result[1])


def _export(module: Any, inputs: tuple[Any, ...]) -> Any:
    import torch

    module = module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(module, inputs)
    except Exception as error:  # whatever tracing the user's code raises
        first = str(error).strip().splitlines()
        raise UserError(
            f"torch.export cannot trace {type(module).__name__}: "
            f"{type(error).__name__}: {first[0] if first else ''}"
        ) from error
