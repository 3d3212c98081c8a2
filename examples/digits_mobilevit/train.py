"""Trains the digits MobileViT: ``python -m examples.digits_mobilevit.train`` (minutes, one core).

Deterministic for one version of PyTorch. Writes ``weights.safetensors`` beside this file.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from examples.digits_mobilevit.model import WEIGHTS, DigitsMobileViT
from examples.digits_vit.data import data
from examples.digits_vit.train import augment

EPOCHS = 60
BATCH = 64
PEAK_RATE = 4e-3
SEED = 0


def train(model: DigitsMobileViT, images: Tensor, labels: Tensor) -> None:
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
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(images):.4f}", flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in the same order on every machine
    train_x, train_y, test_x, test_y = (torch.from_numpy(a) for a in data())
    model = DigitsMobileViT()
    train(model, train_x, train_y)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(test_x).argmax(-1) == test_y).float().mean())
    print(f"test accuracy {100 * accuracy:.2f} % on {len(test_y)} images")
    save_file(model.state_dict(), WEIGHTS)


if __name__ == "__main__":
    main()
