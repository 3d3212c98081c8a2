"""The files of a Hugging Face folder: checks, and what they say about text, images and pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intformer.errors import UserError
from intformer.tasks import ImageSteps

__all__ = ["LENGTH", "Pooling", "check_weights", "image_steps", "read_json", "read_pooling"]

LENGTH = 128
"""Most tokens if the user asks for no other length."""


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing and not ``required``.

    Raises
    ------
    UserError
        The file is missing or damaged; the message names it.
    """
    if not path.is_file():
        if required:
            raise UserError(f"{path}: the file is missing")
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: must hold an object, not {type(data).__name__}")
    return data


def check_weights(folder: Path) -> None:
    """Refuse a folder whose ``.safetensors`` files are missing or damaged."""
    from safetensors import SafetensorError, safe_open

    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise UserError(f"{index}: has no weight_map")
        files = [folder / str(name) for name in sorted(set(names.values()))]
    elif list(folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"{whole}: the file is missing; pytorch_model.bin is not read, as it may run code: "
            "save the model with save_pretrained of a current transformers"
        )
    else:
        raise UserError(f"{whole}: the file is missing")
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: the file is missing")
        try:
            with safe_open(path, framework="np") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not safetensors: {error}") from None


class Pooling:
    """What ``modules.json`` of sentence-transformers says.

    ``transformer``: the folder of the transformer itself; ``mode``: one of
    :data:`intformer.tasks.POOLINGS`; ``normalize``; ``length``: its limit of tokens, if any;
    ``lower_case``.
    """

    def __init__(self, folder: Path, modules: list[Any], source: Path) -> None:
        self.transformer = folder
        self.mode: str | None = None
        self.normalize = False
        for entry in modules:
            if not isinstance(entry, dict) or not {"path", "type"} <= set(entry):
                raise UserError(f"{source}: every module must have a path and a type")
            kind = str(entry["type"]).rpartition(".")[2]
            place = folder / str(entry["path"])
            if kind == "Transformer":
                self.transformer = place
            elif kind == "Pooling":
                self.mode = _mode(place / "config.json")
            elif kind == "Normalize":
                self.normalize = True
            else:
                raise UserError(
                    f"{source}: module {entry['type']!r} is not supported; allowed are "
                    "Transformer, Pooling and Normalize"
                )
        if self.mode is None:
            raise UserError(f"{source}: has no Pooling module")
        settings = self.transformer / "sentence_bert_config.json"
        limits = read_json(settings, required=False)
        self.length = _whole(limits.get("max_seq_length"), settings, "max_seq_length")
        self.lower_case = bool(limits.get("do_lower_case", False))


def read_pooling(folder: Path) -> Pooling | None:
    """The :class:`Pooling` of a sentence-transformers folder; ``None`` if it is not one."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(modules, list) or not modules:
        raise UserError(f"{path}: must hold a list of modules")
    return Pooling(folder, modules, path)


def _mode(path: Path) -> str:
    """Pooling mode, from flags of the older form or the name of the newer."""
    data = read_json(path)
    flags = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
    on = [k.removeprefix("pooling_mode_") for k, v in data.items() if v is True]
    on = [k for k in on if k not in ("include_prompt",)]
    if isinstance(data.get("pooling_mode"), str):
        on = [{v: k for k, v in flags.items()}.get(data["pooling_mode"], data["pooling_mode"])]
    if len(on) != 1 or on[0] not in flags:
        raise UserError(
            f"{path}: pooling must be one of mean_tokens, cls_token and max_tokens, not "
            f"{', '.join(on) or 'nothing'}"
        )
    return flags[on[0]]


def _whole(value: Any, path: Path, name: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{path}: {name} must be a positive integer, not {value!r}")
    return value


def image_steps(folder: Path, *, channels: int, size: Any) -> ImageSteps:
    """The steps of ``preprocessor_config.json``; ``size`` is the model's own, if it has one.

    Raises
    ------
    UserError
        If the file is missing or damaged, or asks for a step that is not known.
    """
    path = folder / "preprocessor_config.json"
    data = read_json(path)
    try:
        return _image_steps(data, channels, size, path)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be understood: {error}") from None


def _image_steps(data: dict[str, Any], channels: int, size: Any, path: Path) -> ImageSteps:
    if channels not in (1, 3):
        raise UserError(f"{path.parent}: images have 1 or 3 channels, not {channels!r}")
    if data.get("crop_pct") is not None:
        raise UserError(f"{path}: crop_pct is not supported; give size and crop_size instead")
    resize = _size(data.get("size")) if data.get("do_resize", False) else ()
    crop = _size(data.get("crop_size")) if data.get("do_center_crop", False) else ()
    target = crop or resize if len(crop or resize) == 2 else _size(size)
    if len(target) == 1:
        target = (target[0], target[0])
    if len(target) != 2:
        raise UserError(f"{path}: gives no size of images, and config.json no image_size")
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if data.get("do_normalize", False):
        mean, std = (_per_channel(data, k, channels, path) for k in ("image_mean", "image_std"))
    factor = data.get("rescale_factor", 1 / 255) if data.get("do_rescale", True) else 1.0
    return ImageSteps(
        height=target[0],
        width=target[1],
        channels=channels,
        resize=resize,
        resample=int(data.get("resample", 2)),
        factor=float(factor),
        mean=mean,
        std=std,
        bgr=bool(data.get("do_flip_channel_order", False)),
    )


def _size(value: Any) -> tuple[int, ...]:
    """``(height, width)``, or ``(shorter side,)``, or nothing."""
    if value is None:
        return ()
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, list | tuple):
        return tuple(int(v) for v in value)
    if value.get("shortest_edge") is not None:
        return (int(value["shortest_edge"]),)
    return int(value["height"]), int(value["width"])


def _per_channel(data: dict[str, Any], key: str, channels: int, path: Path) -> tuple[float, ...]:
    values = data.get(key)
    values = [values] if isinstance(values, int | float) else values or []
    values = tuple(float(v) for v in values)
    if len(values) == 1:
        values *= channels
    if len(values) != channels or (key == "image_std" and not all(values)):
        raise UserError(f"{path}: {key} must hold {channels} numbers that do, not {data.get(key)}")
    return values
