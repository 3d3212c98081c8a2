"""``intformer embed`` and ``intformer classify``: arguments, what they print, their figures."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intformer.errors import UserError
from intformer.running import BoardOutput, Progress, RunOutput
from intformer.tasks import POOLINGS

if TYPE_CHECKING:
    from intformer.model import CompiledModel
    from intformer.running_tasks import Target

__all__ = [
    "add_classify_arguments",
    "add_embed_arguments",
    "checked_output",
    "run_classify",
    "run_embed",
]

SHOWN = 60
"""Characters of a text that a table shows."""


def _target_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--on",
        choices=("reference", "simulator", "iss", "rtl", "board"),
        default="reference",
        help="where the model runs (default: reference); simulator and iss are the same",
    )
    sub.add_argument("--simulator", choices=("verilator", "icarus"), default="verilator")
    sub.add_argument("--port", metavar="PORT", help="serial port of the board (/dev/ttyUSB0)")
    sub.add_argument(
        "--baud", type=int, metavar="N", help="bits per second of the port (default: 1000000)"
    )


def _text_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--text", action="append", default=[], metavar="TEXT", help="may be repeated")
    sub.add_argument(
        "--file", metavar="LINES.txt", help="a text in each line; - for standard input"
    )


def add_embed_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of ``intformer embed``."""
    sub.add_argument("model", metavar="OUT", help="folder of a compiled sentence encoder")
    _text_arguments(sub)
    _target_arguments(sub)
    sub.add_argument(
        "--pooling", choices=POOLINGS, help="for a token encoder, which has none of its own"
    )
    sub.add_argument("-o", "--output", metavar="X.npy", help="write the embeddings")


def add_classify_arguments(sub: argparse.ArgumentParser) -> None:
    """Arguments of ``intformer classify``."""
    sub.add_argument("model", metavar="OUT", help="folder of a compiled classifier")
    sub.add_argument(
        "--image", action="append", default=[], metavar="X.png", help="may be repeated"
    )
    _text_arguments(sub)
    _target_arguments(sub)
    sub.add_argument("--top", type=int, default=5, metavar="K", help="classes to show (default: 5)")


def _target(args: argparse.Namespace) -> Target:
    from intformer.running_tasks import Target

    on = "iss" if args.on == "simulator" else args.on
    return Target(on=on, simulator=args.simulator, port=args.port, baud=args.baud)


def _texts(args: argparse.Namespace) -> list[str]:
    from intformer.text import read_lines

    texts = list(args.text)
    if args.file == "-":
        texts += [line.strip() for line in sys.stdin.read().splitlines() if line.strip()]
    elif args.file:
        texts += read_lines(args.file)
    return texts


def run_embed(args: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], bytes | None]:
    """Embed, print; returns the figures, and the ``.npy`` file's content if one is wanted."""
    from intformer import api
    from intformer.running_tasks import cosines, embed

    texts = _texts(args)
    if not texts:
        raise UserError("give --text or --file")
    model = api.load(args.model)
    result = embed(model, texts, target=_target(args), pooling=args.pooling, progress=progress)
    _tell_cut(model, result.cut, result.tokens)
    similar = cosines(result.vectors)
    print(f"{len(texts)} embeddings of {result.vectors.shape[1]} dimensions")
    if len(texts) > 1:
        print(_similarities(texts, similar))
    elif not args.output:
        with np.printoptions(precision=4, suppress=True, threshold=64):
            print(result.vectors[0])
    figures = {
        "texts": texts,
        "tokens": result.tokens,
        "cut": result.cut,
        "embeddings": result.vectors.tolist(),
        "cosines": np.round(similar, 6).tolist(),
        **_run_figures(model, result.output, args),
    }
    content = None
    if args.output:
        buffer = io.BytesIO()
        np.save(buffer, result.vectors)
        content = buffer.getvalue()
    return figures, content


def run_classify(args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Classify, print; returns the figures."""
    from intformer import api
    from intformer.running_tasks import classify

    if args.top < 1:
        raise UserError(f"--top must be positive, not {args.top}")
    texts = _texts(args)
    if not texts and not args.image:
        raise UserError("give --image, or --text or --file")
    model = api.load(args.model)
    result = classify(
        model, images=args.image, texts=texts, target=_target(args), progress=progress
    )
    _tell_cut(model, result.cut, [])
    samples = []
    for number, name in enumerate(args.image or texts):
        best = result.top(number, args.top)
        print(_short(name) if texts else name)
        width = max(len(label) for label, _, _ in best)
        for label, logit, code in best:
            print(f"  {label:<{width}}  {logit:>10.4f}  {code:>7}")
        samples.append(
            {
                "sample": name,
                "top": [{"label": n, "logit": x, "code": c} for n, x, c in best],
                "logits": result.logits[number].tolist(),
                "codes": result.codes[number].tolist(),
            }
        )
    return {"classified": samples, "cut": result.cut, **_run_figures(model, result.output, args)}


def _tell_cut(model: CompiledModel, cut: list[int], tokens: list[int]) -> None:
    if not cut:
        return
    assert model.task is not None and model.task.text is not None
    length = model.task.text.length
    for number in cut:
        size = f" of {tokens[number]} tokens" if tokens else ""
        print(f"text {number + 1}{size} is cut to {length}", file=sys.stderr)


def _run_figures(
    model: CompiledModel, output: RunOutput, args: argparse.Namespace
) -> dict[str, Any]:
    """Figures of the run; prints cycles, and what a board has to say."""
    from intformer.report import describe_board_run, run_figures

    figures = run_figures(model, output, on="iss" if args.on == "simulator" else args.on)
    if output.cycles:
        print(
            f"cycles per run: {figures['cycles_per_run']:.0f}; "
            f"share of the array's peak: {100 * figures['utilization']:.1f} %"
        )
    if isinstance(output, BoardOutput):
        print(describe_board_run(figures))
    return figures


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _similarities(texts: list[str], cosines: Any) -> str:
    """Cosine of each pair, as a triangle."""
    width = max(len(_short(text)) for text in texts)
    lines = [" " * (width + 5) + "".join(f"{i + 1:>7}" for i in range(len(texts)))]
    for i, text in enumerate(texts):
        row = "".join(f"{cosines[i, j]:>7.3f}" for j in range(i + 1))
        lines.append(f"{i + 1:>3}  {_short(text):<{width}}{row}")
    return "\n".join(lines)


def checked_output(path: str) -> Path:
    """The place of an ``.npy`` file."""
    if Path(path).suffix != ".npy":
        raise UserError(f"embeddings are written as .npy, not {path}")
    return Path(path)
