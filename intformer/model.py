"""Compiled models: an integer graph, its program for one core, and both as a folder of files.

The folder holds ``manifest.json`` (format, version, configuration, inputs and outputs, size and
SHA-256 of every other file), the program (``program.json``, ``program.safetensors``, which holds
the memory image) and the integer graph (``graph.json``, ``graph.safetensors``); if it is known what
the model is for, also ``task.json``, and ``tokenizer.json`` for text. Loading reads JSON and
safetensors only; nothing in the files is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from intformer import program_io
from intformer.compiler import integer_graph_io
from intformer.compiler.integer_graph import IntGraph
from intformer.config import CoreConfig
from intformer.errors import ConfigError, FormatError, UserError
from intformer.program import Program
from intformer.tasks import Task

if TYPE_CHECKING:
    from intformer.running import Progress, RunOutput
    from intformer.verification import VerifyReport

__all__ = ["FORMAT", "VERSION", "CompiledModel", "check_replaceable"]

FORMAT = "intformer-compiled-model"
VERSION = 1
"""Version of the files; another version is refused."""

_MANIFEST = "manifest.json"
_FILES = ("program.json", "program.safetensors", "graph.json", "graph.safetensors")
_TASK, _TOKENIZER = "task.json", "tokenizer.json"

Array = NDArray[Any]


@dataclass
class CompiledModel:
    """A model compiled for one core; ``task``: what it is for, if that is known."""

    graph: IntGraph
    program: Program
    task: Task | None = None

    @property
    def config(self) -> CoreConfig:
        """The core that the program is for."""
        return self.program.config

    def run(
        self,
        arrays: Mapping[str, Array],
        *,
        on: str = "reference",
        simulator: str = "verilator",
        progress: Progress | None = None,
    ) -> RunOutput:
        """Run real-valued samples; see :func:`intformer.running.run_model`."""
        from intformer.running import run_model

        return run_model(self, arrays, on=on, simulator=simulator, progress=progress)

    def verify(
        self,
        arrays: Mapping[str, Array],
        *,
        levels: tuple[str, ...] = ("iss", "rtl"),
        simulator: str = "verilator",
        device: str | None = None,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Compare levels, tensor by tensor; see :func:`intformer.verification.verify_model`."""
        from intformer.verification import verify_model

        return verify_model(
            self, arrays, levels=levels, simulator=simulator, device=device, progress=progress
        )

    def save(self, path: str | Path) -> None:
        """Write the folder ``path``; a compiled model that is there is replaced.

        The folder appears complete or not at all.

        Raises
        ------
        UserError
            If ``path`` is something else than a compiled model, or cannot be written.
        """
        target = Path(path)
        check_replaceable(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        except OSError as error:
            raise UserError(f"cannot write {target}: {error}") from None
        try:
            new = scratch / "new"
            new.mkdir()
            self._write(new)
            if target.exists():
                os.replace(target, scratch / "old")
            os.replace(new, target)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        program, program_arrays = program_io.to_plain(self.program)
        graph, graph_arrays = integer_graph_io.to_plain(self.graph)
        contents = {
            "program.json": _json(program),
            "program.safetensors": safetensors.numpy.save(program_arrays),
            "graph.json": _json(graph),
            "graph.safetensors": safetensors.numpy.save(graph_arrays),
        }
        if self.task is not None:
            contents[_TASK] = _json(self.task.to_plain())
            if self.task.tokenizer:
                contents[_TOKENIZER] = self.task.tokenizer
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "config": self.config.to_dict(),
            "inputs": program["inputs"],
            "outputs": program["outputs"],
            "regions": program["regions"],
            "memory_bytes": self.program.memory_bytes,
            "entry": self.program.entry,
            "meta": self.program.meta,
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in contents.items()
            },
        }
        for name, data in {**contents, _MANIFEST: _json(manifest)}.items():
            (folder / name).write_bytes(data)

    @classmethod
    def load(cls, path: str | Path) -> CompiledModel:
        """Read a folder that :meth:`save` wrote.

        Raises
        ------
        FormatError
            If a file is missing, truncated, changed, foreign, or of another version; the
            message names the file and the place.
        """
        folder = Path(path)
        files = _read_files(folder, _read_manifest(folder))
        program = _decode(folder, "program", files, program_io.from_plain)
        graph = _decode(folder, "graph", files, integer_graph_io.from_plain)
        return cls(graph=graph, program=program, task=_decode_task(folder, files))


def _json(data: Any) -> bytes:
    return (json.dumps(integer_graph_io.plain(data), indent=1) + "\n").encode()


def check_replaceable(path: str | Path) -> None:
    """Raise :class:`UserError` unless ``path`` is free, an empty folder, or a compiled model."""
    target = Path(path)
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise UserError(f"{target} exists and is not a compiled model; it is left alone")
    if not any(target.iterdir()):
        return
    try:
        _read_manifest(target)
    except FormatError:
        raise UserError(
            f"{target} exists and is not a compiled model of this version; it is left alone"
        ) from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise FormatError(f"{folder} is not a compiled model: it has no {_MANIFEST}")
    manifest = _parse_json(path, _read(path))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FormatError(f"{path}: not the manifest of a compiled model")
    if manifest.get("version") != VERSION:
        raise FormatError(
            f"{path}: format version {manifest.get('version')!r}, this program reads {VERSION}; "
            "compile the model again"
        )
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None


def _parse_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not text at byte {error.start}") from None
    except json.JSONDecodeError as error:
        at = len(error.doc[: error.pos].encode())
        raise FormatError(f"{path}: not valid JSON at byte {at}: {error.msg}") from None
    except RecursionError:
        raise FormatError(f"{path}: nested too deeply") from None


def _read_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    files = {}
    listed = manifest.get("files")
    extra = [n for n in (_TASK, _TOKENIZER) if isinstance(listed, dict) and n in listed]
    for name in (*_FILES, *extra):
        path = folder / name
        try:
            size, digest = (manifest["files"][name][key] for key in ("bytes", "sha256"))
        except (KeyError, TypeError):
            raise FormatError(f"{folder / _MANIFEST}: does not list {name}") from None
        if not path.is_file():
            raise FormatError(f"{path}: the file is missing")
        data = _read(path)
        if len(data) != size:
            what = "truncated" if len(data) < size else "too long"
            raise FormatError(f"{path}: {what}: it ends at byte {len(data)} instead of {size}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise FormatError(f"{path}: changed since it was written (SHA-256 differs)")
        files[name] = data
    return files


def _decode_task(folder: Path, files: dict[str, bytes]) -> Task | None:
    if _TASK not in files:
        return None
    path = folder / _TASK
    data = _parse_json(path, files[_TASK])
    return Task.from_plain(data, tokenizer=files.get(_TOKENIZER, b""), source=str(path))


def _decode(folder: Path, what: str, files: dict[str, bytes], from_plain: Any) -> Any:
    """Build the program or the graph from its two files."""
    path = folder / f"{what}.safetensors"
    try:
        arrays = safetensors.numpy.load(files[path.name])
    except safetensors.SafetensorError as error:
        raise FormatError(f"{path}: not safetensors: {error}") from None
    arrays = {name: np.array(array) for name, array in arrays.items()}
    path = folder / f"{what}.json"
    data = _parse_json(path, files[path.name])
    try:
        return from_plain(data, arrays)
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise FormatError(f"{path}: not what was written: {detail}") from None
