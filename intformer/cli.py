"""The command line.

Exit status: 0 all well, 1 a mismatch or a failed build, 2 the user's mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intformer.bench.command import add_arguments as units_arguments
from intformer.boards.command import add_bitstream_arguments, add_virtual_arguments
from intformer.errors import IntformerError, UserError
from intformer.task_command import add_classify_arguments, add_embed_arguments

if TYPE_CHECKING:
    from intformer.model import CompiledModel
    from intformer.running import RunOutput

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        if args.json:
            check_writable(args.json)
        figures, ok = args.handler(args)
        if args.json:
            write_text(args.json, json.dumps(figures, indent=2, sort_keys=True) + "\n")
    except UserError as error:
        print(f"intformer: {error}", file=sys.stderr)
        return 2
    except IntformerError as error:
        print(f"intformer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("intformer: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0 if ok else 1


def check_writable(path: str | Path) -> None:
    """Refuse a place where no file can be written, before the work is done."""
    target = Path(path)
    if target.is_dir():
        raise UserError(f"cannot write {target}: it is a folder")
    if any(parent.exists() and not parent.is_dir() for parent in target.parents):
        raise UserError(f"cannot write {target}: not below a folder")


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all."""
    _write(path, text.encode("utf-8"))


def _write(path: str | Path, content: bytes) -> None:
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            try:
                file.write(content)
                file.close()
                os.chmod(file.name, 0o644)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None


class Progress:
    """Lines of progress on standard error, with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intformer",
        description="Transformers on open FPGAs, exact to the last bit.",
        epilog="exit status: 0 all well, 1 a mismatch or a failed build, 2 the user's mistake",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, handler: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
        sub.set_defaults(handler=handler)
        return sub

    sub = command("compile", _compile, "quantize a model and map it onto a core")
    sub.add_argument(
        "model",
        metavar="MODEL",
        help="a .pt2 archive, an .onnx file, module.path:factory, or a Hugging Face folder",
    )
    sub.add_argument("-o", "--output", metavar="OUT", required=True, help="folder to write")
    _config_option(sub)
    sub.add_argument(
        "--calibrate",
        "--calibration",
        metavar="DATA.npz",
        help="samples that set the scales: one array per model input, samples first; for a Hugging "
        "Face folder also lines of text, or a folder of images",
    )
    sub.add_argument("--weights", choices=("int8", "int4", "int4-g32", "int4-g128"), default="int8")
    sub.add_argument(
        "--activations",
        choices=("int8", "mixed", "token"),
        default="int8",
        help="mixed: int16 and per-channel scales where models are sensitive; token: a scale for "
        "each row of a linear layer's input, found at run time (default: int8)",
    )
    sub.add_argument(
        "--overrides", metavar="FILE.toml", help="settings of single layers, by module path"
    )

    sub.add_argument(
        "--length",
        type=int,
        metavar="N",
        help="tokens of a text model in a Hugging Face folder (default: at most 128)",
    )

    sub = command("run", _run, "run a compiled model")
    _model_arguments(sub)
    sub.add_argument("--on", choices=("reference", "iss", "rtl", "board"), default="reference")
    sub.add_argument("-o", "--output", metavar="Y.npz", help="write the outputs")
    sub.add_argument("--port", metavar="PORT", help="serial port of the board (/dev/ttyUSB0)")
    sub.add_argument(
        "--baud", type=int, metavar="N", help="bits per second of the port (default: 1000000)"
    )
    sub.add_argument("--check", action="store_true", help="compare with the reference")

    sub = command("embed", _embed, "embed sentences with a compiled model")
    add_embed_arguments(sub)
    sub = command("classify", _classify, "classify images or texts with a compiled model")
    add_classify_arguments(sub)

    sub = command("verify", _verify, "compare all levels, tensor by tensor")
    _model_arguments(sub)
    sub.add_argument(
        "--on",
        choices=("iss", "rtl", "netlist"),
        action="append",
        help="levels to compare with the reference (default: iss and rtl)",
    )
    sub.add_argument(
        "--device",
        metavar="NAME",
        help="with --on netlist: the device whose netlist it is, iCE40UP5K or an LFE5U",
    )

    sub = command("verilog", _verilog, "generate the Verilog of a core")
    _config_option(sub)
    sub.add_argument("-o", "--output", metavar="core.v", required=True)
    sub.add_argument(
        "--target",
        choices=("ecp5", "ice40", "gowin"),
        help="use this family's multiplier blocks (default: nothing of any vendor)",
    )

    sub = command("info", _info, "describe a compiled model, a configuration, or a model")
    sub.add_argument("subject", metavar="OUT|CONFIG|MODEL")
    sub.add_argument("--steps", action="store_true", help="list every instruction")
    sub.add_argument(
        "--coverage",
        action="store_true",
        help="what the operations of MODEL map to, without compiling it; status 1 if not all do",
    )
    sub.add_argument(
        "--precision", action="store_true", help="list the codes of every tensor and layer"
    )

    sub = command("synth", _synth, "synthesize, place and route a core; print area and Fmax")
    _config_option(sub)
    sub.add_argument("--device", metavar="NAME", default="LFE5U-85F", help="default: LFE5U-85F")
    sub.add_argument(
        "--seed", type=int, nargs="+", default=[1], help="placement seeds; Fmax is their median"
    )
    sub.add_argument("--mhz", type=float, default=110, help="frequency to ask nextpnr for")
    sub.add_argument(
        "--router",
        choices=("router1", "router2", "none"),
        default="router1",
        help="nextpnr's router: router2 can be faster; it does not finish on crowded cores; "
        "none stops after placement and estimates Fmax",
    )
    sub.add_argument("--build", metavar="DIR", help="keep the tools' files in DIR")
    sub.add_argument(
        "--record", metavar="NAME", help="keep the figures in docs/results/NAME.{json,md}"
    )
    sub = command("units", _units, "area, clock and error of the library's units")
    units_arguments(sub)
    command("boards", _boards, "list the supported boards")
    sub = command("bitstream", _bitstream, "build a board's bitstream")
    add_bitstream_arguments(sub)
    sub = command("virtual-board", _virtual_board, "simulate a board, offered as a serial port")
    add_virtual_arguments(sub)
    return parser


def _config_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--config",
        metavar="NAME|FILE.toml",
        default="16x16",
        help="preset or file (default: 16x16)",
    )


def _model_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="OUT", help="folder of a compiled model")
    sub.add_argument(
        "--input", metavar="X.npz", required=True, help="one array per model input, samples first"
    )
    sub.add_argument("--simulator", choices=("verilator", "icarus"), default="verilator")


def _version() -> str:
    from intformer import __version__

    return f"intformer {__version__}"


def _compile(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api
    from intformer.model import check_replaceable
    from intformer.report import describe_model, model_figures

    check_replaceable(args.output)
    model = api.compile(
        args.model,
        config=args.config,
        calibrate=args.calibrate,
        weights=args.weights,
        length=args.length,
        activations=args.activations,
        overrides=args.overrides,
    )
    model.save(args.output)
    figures = model_figures(model)
    print(describe_model(figures))
    print(f"written: {args.output}")
    return figures, True


def _samples(model: CompiledModel, path: str) -> dict[str, Any]:
    from intformer import api

    return api.read_samples(
        path, {name: model.graph.tensors[name].shape for name in model.graph.inputs}
    )


def _run(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api
    from intformer.report import describe_board_run, run_figures

    if args.output:
        check_writable(args.output)
    _check_board_options(args)
    model = api.load(args.model)
    arrays = _samples(model, args.input)
    result: RunOutput
    if args.on == "board":
        from intformer.running import run_board

        result = run_board(model, arrays, port=args.port, baud=args.baud, progress=Progress())
    else:
        result = model.run(arrays, on=args.on, simulator=args.simulator, progress=Progress())
    if args.output:
        import io

        buffer = io.BytesIO()
        arrays_out = dict(result.outputs) | {f"{n}.codes": c for n, c in result.codes.items()}
        np.savez(buffer, **arrays_out)  # type: ignore[arg-type]
        _write(args.output, buffer.getvalue())
    figures = run_figures(model, result, on=args.on)
    for name, value in result.outputs.items():
        print(f"{name}: {len(value)} samples of shape {value.shape[1:]}")
        if not args.output:
            with np.printoptions(precision=4, suppress=True, threshold=64):
                print(value)
    if result.cycles:
        print(
            f"cycles per run: {figures['cycles_per_run']:.0f}; "
            f"share of the array's peak: {100 * figures['utilization']:.1f} %"
        )
    if args.on == "board":
        print(describe_board_run(figures))
    if not args.check:
        return figures, True
    from intformer.running import compare_with_reference

    difference = compare_with_reference(model, arrays, result)
    print(difference or "all equal to the reference")
    return figures | {"equal": difference is None}, difference is None


def _check_board_options(args: argparse.Namespace) -> None:
    if args.on == "board":
        if args.port is None:
            raise UserError("--on board needs --port")
        if args.baud is not None and args.baud < 1:
            raise UserError(f"--baud must be positive, not {args.baud}")
    elif args.port is not None or args.baud is not None:
        raise UserError(f"--port and --baud are for --on board, not --on {args.on}")


def _embed(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.task_command import checked_output, run_embed

    if args.output:
        check_writable(checked_output(args.output))
    _check_board_options(args)
    figures, content = run_embed(args, Progress())
    if content is not None:
        _write(args.output, content)
    return figures, True


def _classify(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.task_command import run_classify

    _check_board_options(args)
    return run_classify(args, Progress()), True


def _verify(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api

    model = api.load(args.model)
    levels = tuple(dict.fromkeys(args.on or ("iss", "rtl")))
    report = model.verify(
        _samples(model, args.input),
        levels=levels,
        simulator=args.simulator,
        device=args.device,
        progress=Progress(),
    )
    print(report.text())
    return report.figures(), report.ok


def _verilog(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api

    check_writable(args.output)
    config = api.load_config(args.config)
    text = api.verilog(config, target=args.target)
    write_text(args.output, text)
    print(f"{args.output}: module core, {text.count(chr(10))} lines")
    return {"config": config.to_dict(), "lines": text.count("\n"), "file": args.output}, True


def _info(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api, report

    if args.coverage:
        from intformer.compiler.frontend.coverage import coverage, describe_coverage

        figures = coverage(args.subject)
        print(describe_coverage(figures))
        return figures, figures["unsupported"] == 0
    if Path(args.subject).is_dir():
        model = api.load(args.subject)
        figures = report.model_figures(model)
        print(report.describe_model(figures))
        if args.steps:
            print(report.list_steps(model))
        if args.precision:
            print(report.list_precision(model))
        return figures, True
    config = api.load_config(args.subject)
    figures = report.config_figures(config)
    print(report.describe_config(figures))
    return figures, True


def _synth(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer import api
    from intformer.fpga.core import build_core, describe, markdown
    from intformer.fpga.devices import device

    config = api.load_config(args.config)
    figures = build_core(
        config,
        device=device(args.device),
        seeds=args.seed,
        target_mhz=args.mhz,
        router=None if args.router == "none" else args.router,
        build=Path(args.build) if args.build else None,
        progress=Progress(),
    )
    print(describe(figures))
    if args.record:
        from intformer.results import record

        record(args.record, figures, markdown({config.name: figures}))
    return figures, figures["too_small"] is None


def _units(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.bench.command import run

    return run(args, Progress())


def _boards(_args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.boards.command import run_boards

    return run_boards()


def _bitstream(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.boards.command import run_bitstream

    return run_bitstream(args, Progress())


def _virtual_board(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    from intformer.boards.command import run_virtual

    return run_virtual(args, Progress())


if __name__ == "__main__":
    sys.exit(main())
