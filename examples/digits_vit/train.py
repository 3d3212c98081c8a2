"""Trains the digits vision transformer: ``python -m examples.digits_vit.train`` (minutes, CPU).

Deterministic for one version of PyTorch. Writes ``weights.safetensors`` beside this file.
``--prepare`` writes ``digits.npz`` from scikit-learn first.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from examples.digits_vit.data import data
from examples.digits_vit.model import WEIGHTS, DigitsViT

EPOCHS = 120
BATCH = 64
PEAK_RATE = 2e-3
SEED = 0


def prepare() -> None:
    """Write ``digits.npz``: pixels 0..16 as uint8 ``[1797, 64]`` and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez_compressed(
        Path(__file__).with_name("digits.npz"),
        pixels=digits.data.astype(np.uint8),
        labels=digits.target.astype(np.uint8),
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by -1..1 pixels along both axes, and scale its brightness a little."""
    padded = F.pad(images, (1, 1, 1, 1))
    shift = torch.randint(0, 3, (len(images), 2), generator=generator)
    keep = torch.rand(len(images), generator=generator) < 0.5
    shift[keep] = 1
    shifted = [p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, shift.tolist(), strict=True)]
    gain = 0.9 + 0.2 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return torch.clamp(torch.stack(shifted) * gain, 0.0, 1.0)


def train(model: DigitsViT, images: Tensor, labels: Tensor) -> None:
    """AdamW with a one-cycle cosine rate and label smoothing."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for index in torch.randperm(len(images), generator=generator).split(BATCH):
            logits = model(augment(images[index], generator))
            loss = F.cross_entropy(logits, labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prepare", action="store_true", help="write digits.npz first")
    if parser.parse_args().prepare:
        prepare()
    torch.manual_seed(SEED)
    train_x, train_y, test_x, test_y = (torch.from_numpy(a) for a in data())
    model = DigitsViT()
    train(model, train_x, train_y)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(test_x).argmax(-1) == test_y).float().mean())
    print(f"test accuracy {100 * accuracy:.2f} % on {len(test_y)} images")
    save_file(model.state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()
