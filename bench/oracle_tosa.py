"""Requantize against RESCALE of Arm's TOSA reference model, in an environment of its own.

``python -m intformer.bench.oracle_tosa`` makes the environment (``tosa-tools`` pins an old
``ml-dtypes``) below :func:`intformer.hw.verilog.cache_dir` and prints the count of differences.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

from intformer import reference
from intformer.errors import UserError
from intformer.hw.verilog import cache_dir

__all__ = ["TOSA_TOOLS", "compare"]

TOSA_TOOLS = "tosa-tools==2026.8.0"
_LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767), "int32": (-(1 << 31), (1 << 31) - 1)}
_CHANNELS = 64


def _environment() -> Path:
    """The Python of the environment; makes it on first use."""
    folder = cache_dir() / "tosa"
    python = folder / "bin" / "python"
    ready = folder / f"{TOSA_TOOLS}.installed"
    if ready.exists():
        return python
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", TOSA_TOOLS]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if result.returncode:
        raise UserError(
            f"cannot install {TOSA_TOOLS}: pip needs a network or a package index; it says: "
            f"{result.stderr.strip()[-500:]}"
        )
    ready.touch()
    return python


def _cases(rng: np.random.Generator, rows: int) -> list[dict[str, Any]]:
    """Values, and for each channel a multiplier and a shift that TOSA allows."""
    cases = []
    for o_type, (low, high) in _LIMITS.items():
        for mult_bits in (15, 31):
            shift = rng.integers(2, 63, _CHANNELS)
            mult = rng.integers(1, 1 << mult_bits, _CHANNELS)
            # TOSA wants -2**(shift - 1) <= x < 2**(shift - 1), and a result that fits 32 bits.
            fits = np.floor(31 + shift - np.log2(mult)).astype(np.int64) - 1
            bits = np.minimum(np.minimum(shift - 1, fits), 31)
            width = 2.0 ** rng.uniform(0, np.maximum(bits, 1), (rows, _CHANNELS))
            x = np.rint(rng.uniform(-1, 1, (rows, _CHANNELS)) * width).astype(np.int64)
            bound = np.int64(1) << np.maximum(bits, 0)
            zero = 0 if o_type == "int32" else int(rng.integers(low, high + 1))
            cases.append(
                {
                    "x": np.clip(x, -bound, bound - 1).astype(np.int32),
                    "mult": mult.astype(np.int32),
                    "shift": shift.astype(np.int8),
                    # Only 8-bit results have a zero point.
                    "zero": zero if o_type == "int8" else 0,
                    "type": o_type,
                }
            )
    return cases


def compare(rows: int = 2_000, seed: int = 1) -> dict[str, Any]:
    """Count the results in which :func:`intformer.reference.rescale` differs from TOSA's model.

    int8, int16 and int32 results, multipliers of 15 and 31 bits, shifts from 2 to 62, ``rows`` x 64
    values each.

    Raises
    ------
    UserError
        If the environment cannot be made.
    """
    python = _environment()
    cases = _cases(np.random.default_rng(seed), rows)
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "cases.npz", Path(folder) / "results.npz"
        arrays = {f"{name}_{k}": v for k, case in enumerate(cases) for name, v in case.items()}
        np.savez(given, **arrays)
        program = Path(__file__).with_name("tosa_model.py")
        command = [str(python), "-W", "ignore", str(program), str(given), str(got)]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if result.returncode:
            raise UserError(f"the TOSA reference model failed: {result.stderr.strip()[-500:]}")
        results = dict(np.load(got))
    differences = values = 0
    for k, case in enumerate(cases):
        low, high = _LIMITS[case["type"]]
        y = reference.rescale(
            case["x"],
            mult=case["mult"],
            shift=case["shift"],
            zero_point=case["zero"],
            lo=low,
            hi=high,
        )
        values += y.size
        differences += int((y != results[f"y_{k}"]).sum())
    return {"values": values, "differences": differences, "version": TOSA_TOOLS}


if __name__ == "__main__":
    try:
        print(compare())
    except UserError as error:
        sys.exit(str(error))
