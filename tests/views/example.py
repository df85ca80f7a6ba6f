"""Volumes and keys that the tests of the views share."""

import torch

from neuro_ssl.views.geometry import view_matrix
from neuro_ssl.views.random import view_keys

SHAPE = (20, 24, 22)


def head(batch=2):
    """Smooth textured ellipsoids: brain > 0, background 0."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = (z / 0.8) ** 2 + (y / 0.9) ** 2 + (x / 0.7) ** 2 < 1
    texture = 1 + 0.3 * torch.sin(4 * x + 2) * torch.cos(3 * y) + 0.2 * z
    return (inside * texture).expand(batch, 1, *SHAPE).clone()


def keys(n=2, epoch=0, view=0):
    return view_keys(0, torch.full((n,), epoch), torch.arange(n), view)


def matrix(start=(0, 0, 0), size=SHAPE[::-1], flip=False, rotation=(0.0, 0.0, 0.0), shape=SHAPE):
    return view_matrix(
        torch.tensor([start]), torch.tensor([size]), torch.tensor([flip]), torch.tensor([rotation]), torch.Size(shape)
    )
