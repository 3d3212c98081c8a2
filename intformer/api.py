"""The Python API: what the command line does, as functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig, load_config
from intformer.errors import UserError

if TYPE_CHECKING:
    from intformer.model import CompiledModel
    from intformer.tasks import Task

__all__ = ["compile", "load", "read_npz", "read_samples", "verilog"]

Array = NDArray[Any]


def compile(
    model: Any,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    config: str | Path | CoreConfig = "16x16",
    calibrate: str | Path | Mapping[str, Array] | None = None,
    weights: str = "int8",
    activations: str = "int8",
    overrides: str | Path | Mapping[str, Mapping[str, Any]] | None = None,
    length: int | None = None,
) -> CompiledModel:
    """Quantize a float model and map it onto a core.

    Parameters
    ----------
    model:
        A ``torch.export`` archive (path ending in ``.pt2``, PT2E-quantized or not), an ONNX file
        (``.onnx``, float or QDQ), ``"module.path:factory"`` (called without arguments; returns the
        module and a tuple of example inputs), a Hugging Face folder (``config.json`` and
        ``.safetensors``), or a ``torch.nn.Module`` together with ``example_inputs``.
    config:
        Preset name, TOML file, or :class:`~intformer.config.CoreConfig`.
    calibrate:
        Calibration samples: an ``.npz`` file or a mapping with one array per model input, samples
        along the first axis. For a Hugging Face folder also lines of text (any file that is not
        ``.npz`` or ``.npy``), or a folder of images. Without it, random normal data stands in, and
        the report says so.
    weights:
        The codes of static weights: ``"int8"``, ``"int4"`` (a scale per output channel),
        ``"int4-g32"`` or ``"int4-g128"`` (in groups of 32 or 128).
    activations:
        ``"int8"``, ``"mixed"``: more precise where models are sensitive, or ``"token"``: a scale
        for each row of a linear layer's input, found at run time (docs/compiler.md).
    overrides:
        Settings of single layers, by glob patterns of module paths: a mapping, or a TOML file.
    length:
        Tokens of a text model in a Hugging Face folder (default: at most 128).

    Raises
    ------
    UnsupportedModel
        The message lists every operation that cannot be mapped.
    DoesNotFit
        A memory of the core is too small; the message names it and the parameter to raise.
    ConfigError, UserError
        An argument, file or configuration is wrong.
    """
    from intformer.compiler.backend import build_program
    from intformer.compiler.frontend import huggingface
    from intformer.compiler.quantize import quantize
    from intformer.compiler.quantize.settings import Settings, read_overrides
    from intformer.model import CompiledModel

    core = load_config(config)
    if isinstance(overrides, str | Path):
        overrides = read_overrides(overrides)
    Settings(weights, activations, overrides)  # refuses before the work is done
    task = None
    if example_inputs is None and huggingface.is_folder(model):
        floats, task = huggingface.load_folder(model, length=length)
    else:
        if length is not None:
            raise UserError("length is for text models in a Hugging Face folder only")
        floats = _load_floats(model if example_inputs is None else (model, example_inputs))
    if isinstance(calibrate, str | Path):
        shapes = {name: floats.values[name].shape for name in floats.inputs}
        calibrate = _calibration(calibrate, shapes, task)
    graph = quantize(
        floats,
        calibrate,
        weights=weights,
        activations=activations,
        overrides=overrides,
        weight_min=core.weight_min,
    )
    return CompiledModel(graph=graph, program=build_program(graph, core), task=task)


def _calibration(
    path: str | Path, shapes: Mapping[str, tuple[int, ...]], task: Task | None
) -> dict[str, Array]:
    """Samples for the model's inputs from arrays, lines of text, or a folder of images."""
    from intformer.running_tasks import image_arrays, text_arrays

    if Path(path).suffix in (".npz", ".npy") or task is None:
        return read_samples(path, shapes)
    if task.text is not None:
        from intformer.text import read_lines

        return text_arrays(task, list(shapes), read_lines(path))
    from intformer.images import image_files

    if not Path(path).is_dir():
        raise UserError(f"calibration of an image model must be .npz or a folder, not {path}")
    return image_arrays(task, list(shapes), image_files(path))


def _load_floats(source: Any) -> Any:
    """The float graph of a model, by the frontend that reads it."""
    if isinstance(source, str | Path) and str(source).endswith(".onnx"):
        from intformer.compiler.frontend import onnx

        return onnx.load(source)
    from intformer.compiler.frontend import torch_export

    return torch_export.load(source)


def load(path: str | Path) -> CompiledModel:
    """Load a compiled model; raises :class:`~intformer.errors.FormatError` if it is not one."""
    from intformer.model import CompiledModel

    return CompiledModel.load(path)


def verilog(
    config: str | Path | CoreConfig, *, trace: bool = False, target: str | None = None
) -> str:
    """Verilog of a core, one self-contained text with the top module ``core``.

    ``trace`` adds the ports that show scratchpad writes in simulation. ``target`` (``"ecp5"``,
    ``"ice40"`` or ``"gowin"``) makes it use that family's multipliers; without it the text has
    no vendor primitives, and the same function and timing.
    """
    from intformer import __version__
    from intformer.hw.core import Core
    from intformer.hw.verilog import emit

    core = load_config(config)
    parameters = ", ".join(f"{name} {value}" for name, value in core.to_dict().items())
    header = f"// intformer {__version__} core; {parameters}\n"
    return header + emit(Core(core, trace=trace, target=target), name="core")


def read_npz(path: str | Path) -> dict[str, Array]:
    """Arrays of an ``.npz`` file (or of a ``.npy`` file, as one array); pickles are refused.

    Raises
    ------
    UserError
        If the file cannot be read or is not NumPy data; the message names it.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {Path(path).stem: loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy raises many kinds for damaged files
        raise UserError(f"cannot read arrays from {path}: {error}") from None


def read_samples(path: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """:func:`read_npz`, checked against the names and ``shapes`` of a model's inputs.

    Raises
    ------
    UserError
        If the file cannot be read or does not fit; the message names the file and the array.
    """
    from intformer.compiler.quantize.data import runs

    arrays = read_npz(path)
    try:
        next(runs(shapes, arrays), None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return arrays
