"""Small made pictures, and what a metric is called with."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def picture(height=161, width=168, seed=0):
    """A smooth picture with an edge and some noise, (3,H,W)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / generator.uniform(5, 30) + y / generator.uniform(5, 30)) for _ in range(3)]
    image = 128 + 60 * np.stack(waves) + 30 * (x > width * generator.uniform(0.3, 0.7))
    return torch.from_numpy(np.clip(image + generator.normal(0, 8, image.shape), 0, 255) / 255).float()


def blurred(image, times):
    """Box filters of 3x3, again and again."""
    for _ in range(times):
        padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="reflect")
        image = torch.nn.functional.avg_pool2d(padded, 3, stride=1)[0]
    return image


def arguments(metric, dist, ref):
    return (dist, ref) if metric.mode == "fr" else (dist,)


def paint(path: Path, size: tuple[int, int], colour: tuple[int, int, int] = (200, 90, 60)) -> None:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
