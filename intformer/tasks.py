"""What a compiled model is for: the step from text or images to its inputs, and from its outputs.

A :class:`Task` comes from a Hugging Face folder and is kept with the compiled model (``task.json``,
and ``tokenizer.json`` if there is one), so that ``intformer embed`` and ``intformer classify`` need
nothing else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from intformer.errors import FormatError

__all__ = ["KINDS", "POOLINGS", "ImageSteps", "Task", "TextSteps"]

KINDS = (
    "sentence encoder",
    "token encoder",
    "text classifier",
    "image classifier",
    "image encoder",
)
"""What a model makes: one vector per text, one per token, logits, logits, one vector per patch."""
POOLINGS = ("mean", "cls", "max")
"""How a sentence encoder joins its token vectors: mean or maximum over the tokens, or the first."""


@dataclass(frozen=True, kw_only=True)
class TextSteps:
    """From text to token ids and mask.

    Attributes
    ----------
    length: tokens of the model, special ones included; longer text is cut, shorter is padded.
    pad_id: the id that fills up.
    lower_case: whether text is put into lower case before the tokenizer.
    """

    length: int
    pad_id: int = 0
    lower_case: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageSteps:
    """From an image to pixel values: resize, crop, scale, normalize, in this order.

    Attributes
    ----------
    height, width: of the model's input.
    channels: 3 (RGB) or 1 (grey).
    resize: ``(height, width)``, or ``(n,)`` for a shorter side of ``n``, or ``()``.
    resample: Pillow's number of the filter (0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, ...).
    factor: what a pixel's byte is multiplied with.
    mean, std: per channel; the pixel becomes ``(factor * byte - mean) / std``.
    bgr: whether the channels stand in the order blue, green, red.
    """

    height: int
    width: int
    channels: int = 3
    resize: tuple[int, ...] = ()
    resample: int = 2
    factor: float = 1.0 / 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model is for.

    Attributes
    ----------
    kind: one of :data:`KINDS`.
    text, image: how its input is made; one of them is set.
    pooling: one of :data:`POOLINGS`, for sentence encoders.
    normalize: whether an embedding is divided by its length.
    labels: names of the classes, in the order of the logits.
    tokenizer: the ``tokenizer.json`` of the model, or nothing.
    """

    kind: str
    text: TextSteps | None = None
    image: ImageSteps | None = None
    pooling: str | None = None
    normalize: bool = False
    labels: tuple[str, ...] = ()
    tokenizer: bytes = field(default=b"", repr=False)

    def to_plain(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; the tokenizer is a file of its own."""
        data = dataclasses.asdict(self)
        del data["tokenizer"]
        return data

    @classmethod
    def from_plain(cls, data: Any, *, tokenizer: bytes = b"", source: str = "task") -> Task:
        """Inverse of :meth:`to_plain`.

        Raises
        ------
        FormatError
            If the data are not what :meth:`to_plain` makes; the message begins with ``source``.
        """
        try:
            fields = dict(data)
            for name, steps in (("text", TextSteps), ("image", ImageSteps)):
                if fields[name] is not None:
                    fields[name] = steps(**{k: _tuples(v) for k, v in fields[name].items()})
            fields["labels"] = tuple(str(label) for label in fields["labels"])
            task = cls(**fields, tokenizer=tokenizer)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise FormatError(f"{source}: not what was written: {error}") from None
        if task.kind not in KINDS or (task.text is None) == (task.image is None):
            raise FormatError(f"{source}: not what was written: kind {task.kind!r}")
        if task.kind == "sentence encoder" and task.pooling not in POOLINGS:
            raise FormatError(f"{source}: pooling must be one of {', '.join(POOLINGS)}")
        return task


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
