"""Text to token ids and mask on the host, with the ``tokenizers`` library alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.errors import FormatError, UserError
from intformer.tasks import TextSteps

__all__ = ["Encoded", "encode_texts", "read_lines"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Encoded:
    """Texts as a model takes them.

    ``ids`` (int64) and ``mask`` (bool, true for tokens), both ``[texts, length]``; ``tokens``: how
    many tokens each text has, before it was cut to ``length``.
    """

    ids: Array
    mask: Array
    tokens: list[int]

    @property
    def cut(self) -> list[int]:
        """Numbers of the texts that were too long."""
        return [i for i, count in enumerate(self.tokens) if count > self.ids.shape[1]]


def encode_texts(tokenizer: bytes, steps: TextSteps, texts: Sequence[str]) -> Encoded:
    """Tokenize, cut to the model's length (special tokens stay), and pad.

    Raises
    ------
    UserError
        If there is no text, or the ``tokenizers`` library is missing.
    FormatError
        If ``tokenizer`` is not a ``tokenizer.json``.
    """
    if not texts:
        raise UserError("there is no text")
    if steps.lower_case:
        texts = [text.lower() for text in texts]
    engine = _engine(tokenizer)
    engine.no_padding()
    engine.no_truncation()
    counts = [len(e.ids) for e in engine.encode_batch(list(texts))]
    engine.enable_truncation(steps.length)
    ids = np.full((len(texts), steps.length), steps.pad_id, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, keep, encoding in zip(ids, mask, engine.encode_batch(list(texts)), strict=True):
        row[: len(encoding.ids)] = encoding.ids
        keep[: len(encoding.ids)] = True
    return Encoded(ids, mask, counts)


def _engine(tokenizer: bytes) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(f"text needs tokenizers ({error}): pip install tokenizers") from None
    if not tokenizer:
        raise UserError("the model was compiled without a tokenizer: its folder had none")
    try:
        return tokenizers.Tokenizer.from_str(tokenizer.decode("utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise FormatError(f"tokenizer.json: not a tokenizer: {error}") from None


def read_lines(path: str | Path) -> list[str]:
    """Lines of a text file that are not blank.

    Raises
    ------
    UserError
        If the file cannot be read, is not UTF-8, or holds blank lines only.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: not UTF-8 text at byte {error.start}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} holds no text")
    return lines
