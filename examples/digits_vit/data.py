"""The digits data set: 1,797 images of 8x8 pixels (UCI ML, as shipped by scikit-learn)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CALIBRATION_IMAGES", "TEST_IMAGES", "calibration_images", "data", "test_split"]

Array = NDArray[Any]

TEST_IMAGES = 500
CALIBRATION_IMAGES = 128
_FILE = Path(__file__).with_name("digits.npz")


def data() -> tuple[Array, Array, Array, Array]:
    """Training images and labels, test images and labels.

    Images are float32 ``[n, 1, 8, 8]`` with pixels from 0 to 1. The split is fixed: every class
    gives the test set its share of :data:`TEST_IMAGES`, drawn with a fixed seed.
    """
    with np.load(_FILE) as archive:
        pixels, labels = archive["pixels"], archive["labels"].astype(np.int64)
    images = (pixels.astype(np.float32) / 16.0).reshape(-1, 1, 8, 8)
    is_test = _stratified(labels)
    return images[~is_test], labels[~is_test], images[is_test], labels[is_test]


def test_split() -> tuple[Array, Array]:
    """Test images and labels."""
    _, _, images, labels = data()
    return images, labels


def calibration_images() -> Array:
    """The first :data:`CALIBRATION_IMAGES` training images."""
    images, *_ = data()
    return images[:CALIBRATION_IMAGES]


def _stratified(labels: Array) -> Array:
    """Mask of the test images: the same share of every class."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within
    picks = (np.arange(TEST_IMAGES) * len(labels)) // TEST_IMAGES
    mask = np.zeros(len(labels), bool)
    mask[order[picks]] = True
    return mask
