"""Image files to a model's pixel values on the host, with Pillow and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.errors import UserError
from intformer.tasks import ImageSteps

__all__ = ["SUFFIXES", "image_files", "pixel_values", "read_images"]

Array = NDArray[Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""What :func:`image_files` takes for an image."""


def image_files(folder: str | Path) -> list[Path]:
    """The image files in a folder, by name; :class:`UserError` if there is none."""
    found = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return found


def read_images(paths: Sequence[str | Path], steps: ImageSteps) -> Array:
    """Pixel values ``[images, channels, height, width]``, float32, of image files.

    Raises
    ------
    UserError
        If a file is missing or not an image, or Pillow is.
    """
    return np.stack([_read(Path(path), steps) for path in paths])


def _read(path: Path, steps: ImageSteps) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError(f"images need Pillow ({error}): pip install pillow") from None
    if not path.is_file():
        raise UserError(f"no such image: {path}")
    try:
        with Image.open(path) as image:
            return pixel_values(image.convert("RGB" if steps.channels == 3 else "L"), steps)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {path} as an image: {error}") from None


def pixel_values(image: Any, steps: ImageSteps) -> Array:
    """Pixel values ``[channels, height, width]``, float32, of a Pillow image of mode RGB or L.

    The steps are those of Hugging Face's image processors on Pillow: see
    :class:`~intformer.tasks.ImageSteps`. A crop is taken from the middle; where the image is
    smaller, black is added.
    """
    if steps.resize:
        image = image.resize(_target(image.size, steps.resize), resample=steps.resample)
    pixels: Array = np.asarray(image, np.float32)
    pixels = pixels.reshape(*pixels.shape[:2], steps.channels)
    pixels = _crop(pixels, steps.height, steps.width) * np.float32(steps.factor)
    if steps.mean:
        pixels = (pixels - np.array(steps.mean, np.float32)) / np.array(steps.std, np.float32)
    if steps.bgr:
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def _target(size: tuple[int, int], resize: tuple[int, ...]) -> tuple[int, int]:
    """Width and height to resize to."""
    if len(resize) == 2:
        return resize[1], resize[0]
    (short,) = resize
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _crop(pixels: Array, height: int, width: int) -> Array:
    """The middle, or the whole with zeros around it."""
    for axis, wanted in enumerate((height, width)):
        have = pixels.shape[axis]
        if have < wanted:
            before = -(-(wanted - have) // 2)
            around = [(0, 0)] * 3
            around[axis] = (before, wanted - have - before)
            pixels = np.pad(pixels, around)
        else:
            first = (have - wanted) // 2
            pixels = np.take(pixels, np.arange(first, first + wanted), axis=axis)
    return pixels
