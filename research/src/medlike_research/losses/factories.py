"""Losses of other methods as the entry-point group `medlike.losses` wants them: functions of (classes, bits)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medlike_research.losses.csq import csq, hash_centres
from medlike_research.losses.dch import dch
from medlike_research.losses.dpsh import dpsh
from medlike_research.losses.dsh import dsh
from medlike_research.losses.hashnet import hashnet

Loss = Callable[[Tensor, Tensor], Tensor]


def csq_loss(classes: int, bits: int) -> Loss:
    """Return CSQ with a hash centre for each class."""
    centres = hash_centres(classes, bits)
    return lambda u, labels: csq(u, labels, centres.to(u.device))


def dch_loss(classes: int, bits: int) -> Loss:
    """Return DCH; it depends neither on the classes nor on the bits."""
    return dch


def dpsh_loss(classes: int, bits: int) -> Loss:
    """Return DPSH; it depends neither on the classes nor on the bits."""
    return dpsh


def dsh_loss(classes: int, bits: int) -> Loss:
    """Return DSH; it depends neither on the classes nor on the bits."""
    return dsh


def hashnet_loss(classes: int, bits: int) -> Loss:
    """Return HashNet; it depends neither on the classes nor on the bits."""
    return hashnet
