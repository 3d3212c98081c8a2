"""Compiled models on text and images: embeddings of sentences, labels of images and texts.

Tokenization and preprocessing happen on the host; the last hidden state or the logits come from
the chosen target; pooling and normalization of embeddings happen on the host again, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.errors import UserError
from intformer.images import read_images
from intformer.running import Progress, RunOutput, run_board, run_model
from intformer.tasks import POOLINGS, Task
from intformer.text import Encoded, encode_texts

if TYPE_CHECKING:
    from intformer.model import CompiledModel

__all__ = [
    "TARGETS",
    "Classes",
    "Embeddings",
    "Target",
    "classify",
    "cosines",
    "embed",
    "image_arrays",
    "pool",
    "text_arrays",
]

Array = NDArray[Any]

TARGETS = ("reference", "iss", "rtl", "board")
"""Where a model can run; ``simulator`` on the command line is another name of ``iss``."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a model runs: one of :data:`TARGETS`, with the options of ``intformer run``."""

    on: str = "reference"
    simulator: str = "verilator"
    port: str | None = None
    baud: int | None = None

    def run(
        self, model: CompiledModel, arrays: Mapping[str, Array], progress: Progress | None
    ) -> RunOutput:
        """Run samples; a board needs ``port``."""
        if self.on != "board":
            return run_model(model, arrays, on=self.on, simulator=self.simulator, progress=progress)
        if self.port is None:
            raise UserError("--on board needs --port")
        return run_board(model, arrays, port=self.port, baud=self.baud, progress=progress)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of texts.

    ``vectors``: float32 ``[texts, dimensions]``; ``tokens``: of each text, before it was cut;
    ``cut``: numbers of the texts that were; ``output``: the run.
    """

    vectors: Array
    tokens: list[int]
    cut: list[int]
    output: RunOutput


@dataclass(frozen=True)
class Classes:
    """Logits of samples: real values and integer codes, ``[samples, classes]``.

    ``labels``: of the classes; ``cut``: numbers of texts that were too long; ``output``: the run.
    """

    logits: Array
    codes: Array
    labels: tuple[str, ...]
    output: RunOutput
    cut: list[int] = field(default_factory=list)

    def top(self, sample: int, count: int) -> list[tuple[str, float, int]]:
        """Label, logit and code of the ``count`` best classes of a sample, the best first."""
        order = np.argsort(-self.logits[sample], kind="stable")[:count]
        return [
            (self.labels[i], float(self.logits[sample, i]), int(self.codes[sample, i]))
            for i in order.tolist()
        ]


def text_arrays(task: Task, inputs: Sequence[str], texts: Sequence[str]) -> dict[str, Array]:
    """The arrays of a text model's inputs (ids, mask) for texts."""
    assert task.text is not None
    return _named(inputs, encode_texts(task.tokenizer, task.text, texts))


def _named(inputs: Sequence[str], encoded: Encoded) -> dict[str, Array]:
    ids, mask = inputs
    return {ids: encoded.ids, mask: encoded.mask}


def image_arrays(
    task: Task, inputs: Sequence[str], paths: Sequence[str | Path]
) -> dict[str, Array]:
    """The array of an image model's input for image files."""
    assert task.image is not None
    (name,) = inputs
    return {name: read_images(paths, task.image)}


def embed(
    model: CompiledModel,
    texts: Sequence[str],
    *,
    target: Target | None = None,
    pooling: str | None = None,
    progress: Progress | None = None,
) -> Embeddings:
    """Embed texts, one run of the target for each.

    Parameters
    ----------
    pooling:
        One of :data:`~intformer.tasks.POOLINGS`; needed for a token encoder, which has none of its
        own; other models keep to theirs.

    Raises
    ------
    UserError
        The model is no text encoder or was compiled without a tokenizer, or there is no text.
    """
    task = _task(model, ("sentence encoder", "token encoder"), "embed")
    mode = _pooling(task, pooling)
    assert task.text is not None
    encoded = encode_texts(task.tokenizer, task.text, texts)
    output = (target or Target()).run(model, _named(model.graph.inputs, encoded), progress)
    (hidden,) = output.outputs.values()
    vectors = pool(hidden, encoded.mask, mode=mode, normalize=task.normalize)
    return Embeddings(vectors, encoded.tokens, encoded.cut, output)


def _pooling(task: Task, wanted: str | None) -> str:
    if wanted is not None and wanted not in POOLINGS:
        raise UserError(f"pooling must be one of {', '.join(POOLINGS)}, not {wanted!r}")
    if task.pooling is None:
        if wanted is None:
            raise UserError(
                "the model is a token encoder without pooling of its own (its folder had no "
                f"modules.json); choose one: {', '.join(POOLINGS)}"
            )
        return wanted
    if wanted not in (None, task.pooling):
        raise UserError(f"the model's own pooling is {task.pooling}, not {wanted}")
    return task.pooling


def pool(hidden: Array, mask: Array, *, mode: str, normalize: bool) -> Array:
    """Join token vectors ``[texts, tokens, n]`` under a mask ``[texts, tokens]``; float32.

    ``mode``: ``mean`` or ``max`` over the tokens that the mask keeps, or ``cls``, the first token.
    ``normalize``: divide by the Euclidean length, if that is not 0.
    """
    hidden = np.asarray(hidden, np.float64)
    keep = np.asarray(mask, bool)[..., None]
    if mode == "cls":
        vectors = hidden[:, 0]
    elif mode == "max":
        vectors = np.where(keep, hidden, -np.inf).max(axis=1)
    else:
        vectors = np.where(keep, hidden, 0.0).sum(axis=1) / np.maximum(keep.sum(axis=1), 1)
    if normalize:
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(length > 0, length, 1.0)
    return vectors.astype(np.float32)


def cosines(vectors: Array) -> Array:
    """Cosine similarity of each pair of rows, float64."""
    vectors = np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(length > 0, length, 1.0)
    return np.clip(unit @ unit.T, -1.0, 1.0)


def classify(
    model: CompiledModel,
    *,
    images: Sequence[str | Path] = (),
    texts: Sequence[str] = (),
    target: Target | None = None,
    progress: Progress | None = None,
) -> Classes:
    """Classify image files, or texts, one run of the target for each.

    Raises
    ------
    UserError
        The model is no classifier or takes the other kind of input, or a file cannot be read.
    """
    task = _task(model, ("image classifier", "text classifier"), "classify")
    target = target or Target()
    cut: list[int] = []
    if task.image is not None:
        if texts or not images:
            raise UserError("the model classifies images: give --image")
        arrays = image_arrays(task, model.graph.inputs, images)
    else:
        assert task.text is not None
        if images or not texts:
            raise UserError("the model classifies texts: give --text")
        encoded = encode_texts(task.tokenizer, task.text, texts)
        arrays, cut = _named(model.graph.inputs, encoded), encoded.cut
    output = target.run(model, arrays, progress)
    (logits,) = output.outputs.values()
    (codes,) = output.codes.values()
    count = logits.shape[-1]
    labels = task.labels if len(task.labels) == count else tuple(str(i) for i in range(count))
    return Classes(logits, codes, labels, output, cut)


def _task(model: CompiledModel, kinds: tuple[str, ...], command: str) -> Task:
    wanted = " or ".join(f"a {kind}" for kind in kinds).replace("a image", "an image")
    if model.task is None:
        raise UserError(
            f"{command} needs {wanted}, compiled from a Hugging Face folder; this model was not"
        )
    if model.task.kind not in kinds:
        raise UserError(f"{command} needs {wanted}; this model is: {model.task.kind}")
    return model.task
