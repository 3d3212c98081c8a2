"""Programs as plain data: a JSON-ready dictionary, and named NumPy arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.isa import INSTRUCTION_BYTES, Mem, Op, decode
from intformer.program import ExternalTensor, Production, Program, Region, Step

__all__ = ["from_plain", "to_plain"]

Arrays = dict[str, NDArray[Any]]


def to_plain(program: Program) -> tuple[dict[str, Any], Arrays]:
    """The program as a dictionary that JSON can hold, and its arrays by name.

    The instructions themselves are in the image only.
    """
    arrays: Arrays = {"image": np.ascontiguousarray(program.image, np.uint8)}
    productions = []
    for index, production in enumerate(program.productions.values()):
        arrays[f"positions/{index}"] = np.array(production.positions, np.int64, order="C")
        arrays[f"steps/{index}"] = np.array(production.steps, np.int64)
        productions.append({"tensor": production.tensor, "mem": int(production.mem)})
    data = {
        "config": program.config.to_dict(),
        "entry": program.entry,
        "memory_bytes": program.memory_bytes,
        "steps": [[step.node, step.tensor] for step in program.steps],
        "regions": [dataclasses.asdict(region) for region in program.regions],
        "inputs": [dataclasses.asdict(tensor) for tensor in program.inputs],
        "outputs": [dataclasses.asdict(tensor) for tensor in program.outputs],
        "productions": productions,
        "meta": program.meta,
    }
    return data, arrays


def from_plain(data: dict[str, Any], arrays: Arrays) -> Program:
    """Inverse of :func:`to_plain`.

    Raises
    ------
    ConfigError, KeyError, TypeError, ValueError
        If the data are not what :func:`to_plain` makes.
    """
    image = arrays["image"]
    return Program(
        config=CoreConfig.from_dict(data["config"], source="compiled model"),
        steps=_steps(image, int(data["entry"]), data["steps"]),
        image=image,
        memory_bytes=int(data["memory_bytes"]),
        entry=int(data["entry"]),
        regions=[Region(**region) for region in data["regions"]],
        inputs=[_external(tensor) for tensor in data["inputs"]],
        outputs=[_external(tensor) for tensor in data["outputs"]],
        productions={
            entry["tensor"]: Production(
                entry["tensor"],
                Mem(entry["mem"]),
                arrays[f"positions/{index}"],
                tuple(int(step) for step in arrays[f"steps/{index}"]),
            )
            for index, entry in enumerate(data["productions"])
        },
        meta=data["meta"],
    )


def _external(fields: dict[str, Any]) -> ExternalTensor:
    return ExternalTensor(**{**fields, "shape": tuple(int(n) for n in fields["shape"])})


def _steps(image: NDArray[np.uint8], entry: int, names: list[list[Any]]) -> list[Step]:
    end = entry + INSTRUCTION_BYTES * (len(names) + 1)
    if not 0 <= entry <= end <= image.size:
        raise ValueError(f"the program lies at {entry}..{end}, outside the image of {image.size}")
    code = image[entry:end].tobytes()
    steps = []
    for index, (node, tensor) in enumerate(names):
        start = INSTRUCTION_BYTES * index
        try:
            instruction = decode(code[start : start + INSTRUCTION_BYTES])
        except ValueError as error:
            raise ValueError(f"instruction {index} at byte {entry + start}: {error}") from None
        steps.append(Step(instruction, node, tensor))
    if decode(code[-INSTRUCTION_BYTES:]).op is not Op.END:
        raise ValueError(f"no END after {len(names)} instructions")
    return steps
