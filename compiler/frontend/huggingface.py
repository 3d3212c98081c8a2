"""The Hugging Face frontend: a folder with configuration and weights to the float graph.

Nothing is fetched from anywhere and no code from the folder runs.
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intformer.compiler import graph as fg
from intformer.compiler.frontend import torch_export
from intformer.compiler.frontend.huggingface_files import (
    LENGTH,
    check_weights,
    image_steps,
    read_json,
    read_pooling,
)
from intformer.errors import UserError
from intformer.tasks import Task, TextSteps

__all__ = ["is_folder", "load_folder"]

_PREFIX = "model."


def is_folder(model: Any) -> bool:
    """Whether ``model`` names a folder rather than an archive or a factory."""
    return isinstance(model, str | os.PathLike) and Path(model).is_dir()


def load_folder(path: str | Path, *, length: int | None = None) -> tuple[fg.Graph, Task]:
    """The float graph of the model in a Hugging Face folder, and what it is for.

    The class comes from ``architectures`` of ``config.json``. Text models take ``input_ids`` and
    ``attention_mask`` (bool, true for tokens) of shape ``[1, length]``; the mask is a predicate of
    every softmax. They give the last hidden state, or logits with a classification head; image
    models take ``pixel_values``.

    Parameters
    ----------
    length:
        Tokens of a text model. Default: what tokenizer, sentence-transformers' settings and
        position table allow, at most :data:`~intformer.compiler.frontend.huggingface_files.LENGTH`.

    Raises
    ------
    UserError
        A file is missing or damaged (the message names it), or the architecture is not an encoder.
    UnsupportedModel
        The model holds operations that cannot be mapped.
    """
    folder = Path(path)
    pooling = read_pooling(folder)
    place = pooling.transformer if pooling else folder
    config = read_json(place / "config.json")
    check_weights(place)
    with _quiet():
        model = _build(place, config)
        if model.main_input_name == "pixel_values":
            graph, task = _image_model(place, model)
        elif model.main_input_name == "input_ids":
            graph, task = _text_model(place, model, pooling, length)
        else:
            raise UserError(
                f"{place}: {type(model).__name__} takes {model.main_input_name}; only text and "
                "images are supported"
            )
    _strip(graph)
    graph.meta["model"] = folder.resolve().name
    return graph, task


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers offline, and without messages of it and of what it imports."""
    logging.disable(logging.WARNING)
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import transformers
    except ImportError as error:
        logging.disable(logging.NOTSET)
        raise UserError(
            f"a Hugging Face folder needs transformers ({error}): pip install 'intformer[hf]'"
        ) from None
    own = transformers.utils.logging
    level = own.get_verbosity()
    own.set_verbosity(own.CRITICAL)
    own.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        own.set_verbosity(level)
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE", None)


def _build(folder: Path, config: dict[str, Any]) -> Any:
    import torch

    if "quantization_config" in config:
        raise UserError(
            f"{folder / 'config.json'}: the weights are quantized already; give the float model"
        )
    cls, head = _class(folder, config)
    try:
        model, info = cls.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: cannot load {cls.__name__}: {first}") from None
    # No pooler is used, so it may be missing.
    missing = sorted(k for k in info["missing_keys"] if head or "pooler" not in k)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{folder}: the safetensors files lack the weight {missing[0]}{more}")
    return model.eval()


def _class(folder: Path, config: dict[str, Any]) -> tuple[Any, bool]:
    """The class to build, and whether it has a head that is used."""
    import transformers

    path = folder / "config.json"
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise UserError(f"{path}: has no architectures")
    name = names[0]
    cls = getattr(transformers, name, None)
    if cls is None or not inspect.isclass(cls) or not hasattr(cls, "from_pretrained"):
        raise UserError(f"{path}: transformers has no architecture {name!r}")
    if name.endswith(("ForSequenceClassification", "ForImageClassification")):
        return cls, True
    if name.endswith(("Model", "ModelWithProjection")) and not name.endswith("LMHeadModel"):
        return cls, False
    if name.endswith(("ForMaskedLM", "ForPreTraining")):
        return transformers.AutoModel, False
    raise UserError(
        f"{path}: architecture {name!r} is not supported; allowed are encoders (…Model, "
        "…ForMaskedLM, of which the encoder is taken, …ForSequenceClassification, "
        "…ForImageClassification)"
    )


def _labels(model: Any) -> tuple[str, ...]:
    names = getattr(model.config, "id2label", None) or {}
    return tuple(str(names[i]) for i in sorted(names))


def _image_model(folder: Path, model: Any) -> tuple[fg.Graph, Task]:
    import torch

    head = type(model).__name__.endswith("ForImageClassification")
    steps = image_steps(
        folder,
        channels=getattr(model.config, "num_channels", 3),
        size=getattr(model.config, "image_size", None),
    )
    example = torch.zeros(1, steps.channels, steps.height, steps.width)
    wrapped = _wrapper(model, "logits" if head else "last_hidden_state")
    try:
        with torch.no_grad():
            wrapped(example)
    except Exception as error:
        raise UserError(
            f"{folder}: the model does not take images of {steps.height} x {steps.width} from "
            f"preprocessor_config.json: {error}"
        ) from None
    graph = torch_export.load((wrapped, (example,)))
    kind = "image classifier" if head else "image encoder"
    return graph, Task(kind=kind, image=steps, labels=_labels(model) if head else ())


def _text_model(
    folder: Path, model: Any, pooling: Any, length: int | None
) -> tuple[fg.Graph, Task]:
    import torch

    if getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "decoder"):
        raise UserError(f"{folder}: {type(model).__name__} has a decoder; only encoders map")
    length = _length(folder, model, pooling, length)
    tokenizer = _tokenizer(folder)
    head = type(model).__name__.endswith("ForSequenceClassification")
    wrapped = _matching(folder, model, "logits" if head else "last_hidden_state", length)
    example = (torch.ones(1, length, dtype=torch.long), torch.ones(1, length, dtype=torch.bool))
    graph = torch_export.load((wrapped, example))
    steps = TextSteps(
        length=length,
        pad_id=int(getattr(model.config, "pad_token_id", None) or 0),
        lower_case=bool(pooling and pooling.lower_case),
    )
    if head:
        return graph, Task(
            kind="text classifier", text=steps, labels=_labels(model), tokenizer=tokenizer
        )
    if pooling is None:
        return graph, Task(kind="token encoder", text=steps, tokenizer=tokenizer)
    return graph, Task(
        kind="sentence encoder",
        text=steps,
        pooling=pooling.mode,
        normalize=pooling.normalize,
        tokenizer=tokenizer,
    )


def _length(folder: Path, model: Any, pooling: Any, wanted: int | None) -> int:
    table = getattr(model.config, "max_position_embeddings", None)
    if wanted is not None:
        if wanted < 1:
            raise UserError(f"the length must be positive, not {wanted}")
        if table is not None and wanted > table:
            raise UserError(f"{folder}: the model has {table} positions, not {wanted}")
        return wanted
    settings = read_json(folder / "tokenizer_config.json", required=False)
    limits = [LENGTH, table, settings.get("model_max_length"), pooling and pooling.length]
    return min(int(n) for n in limits if n)


def _tokenizer(folder: Path) -> bytes:
    """The tokenizer as ``tokenizer.json`` holds it; nothing if the folder has none at all."""
    path = folder / "tokenizer.json"
    if path.is_file():
        import tokenizers

        data = path.read_bytes()
        try:
            tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path}: not a tokenizer: {error}") from None
        return data
    sources = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
    found = [name for name in sources if (folder / name).is_file()]
    if not found:
        return b""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return made.backend_tokenizer.to_str().encode()
    except Exception as error:  # transformers raises many kinds
        raise UserError(
            f"{path}: the file is missing, and cannot be made from {found[0]}: {error}"
        ) from None


def _wrapper(model: Any, result: str, *, positions: int | None = None, square: bool = True) -> Any:
    """A module that takes and returns plain tensors.

    ``positions``: the first position id, given explicitly; ``square``: whether the mask is given
    as ``[1, 1, length, length]``, true where a token attends.
    """
    import torch

    class ImageModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return getattr(self.model(pixel_values=pixel_values), result)

    class TextModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            n = input_ids.shape[1]
            more = {}
            if positions is not None:
                more["position_ids"] = torch.arange(positions, positions + n)[None]
            mask = attention_mask
            if square:
                mask = mask[:, None, None, :].expand(1, 1, n, n)
            return getattr(self.model(input_ids=input_ids, attention_mask=mask, **more), result)

    return ImageModel() if model.main_input_name == "pixel_values" else TextModel()


def _matching(folder: Path, model: Any, result: str, length: int) -> Any:
    """The wrapper that gives what the model itself gives for padded text.

    Position ids that a model computes from the token ids, and masks that it builds from a row per
    text, do not map; most models take both ready-made. Whether they mean the same is tried out.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    pad = int(getattr(model.config, "pad_token_id", None) or 0)
    ids = torch.randint(0, model.config.vocab_size, (1, length), generator=generator)
    ids[ids == pad] = (pad + 1) % model.config.vocab_size
    kept = max(1, length - length // 4)
    ids[:, kept:] = pad
    mask = torch.arange(length)[None] < kept
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    starts = [0, pad + 1, None] if takes_positions else [None]
    with torch.no_grad():
        try:
            want = getattr(model(input_ids=ids, attention_mask=mask.long()), result)
        except Exception as error:
            raise UserError(
                f"{folder}: {type(model).__name__} does not run with {length} tokens: {error}"
            ) from None
        for square, start in [(s, p) for s in (True, False) for p in starts]:
            wrapped = _wrapper(model, result, positions=start, square=square).eval()
            try:
                got = wrapped(ids, mask)
            except Exception:  # this form is not for this model
                continue
            if got.ndim == 3:
                got, want = got[:, :kept], want[:, :kept]
            if torch.allclose(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max())):
                return wrapped
    return _wrapper(model, result)


def _strip(graph: fg.Graph) -> None:
    """Module paths as in the folder's weights, without the wrapper around the model."""
    names = {
        name: name.removeprefix(_PREFIX)
        for name in graph.values
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in graph.values
    }
    for value in graph.values.values():
        value.name = names.get(value.name, value.name)
    graph.values = {value.name: value for value in graph.values.values()}
    for node in graph.nodes:
        node.name = names.get(node.name, node.name)
        node.output = names.get(node.output, node.output)
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.source = node.source.removeprefix(_PREFIX)
    graph.outputs = [names.get(name, name) for name in graph.outputs]
