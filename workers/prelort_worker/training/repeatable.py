"""
Gradients that are the same bytes every time on a GPU.

Workers let operators without a deterministic form only warn (device.py), since some models need them. But PyTorch's
attention then adds up its gradients in any order: its kernels have a deterministic form, and use it only where others
are refused. So a model is tried once, and others are refused wherever it can do without them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .batches import Batch, mean_loss
from .nested_lora import NestedLora


def needs_no_others(nested: NestedLora, batch: Batch) -> bool:
    """Whether a training pass gets by with deterministic operators."""
    try:
        with torch.enable_grad(), _refusing():
            mean_loss(nested, batch).backward()
    except RuntimeError as error:
        return "deterministic" not in str(error)  # any other failure is for training to report
    finally:
        nested.model.zero_grad()
    return True


@contextmanager
def repeatable(nested: NestedLora) -> Iterator[None]:
    """Around a training pass."""
    if not nested.is_strict:
        yield
        return
    with _refusing():
        yield


@contextmanager
def _refusing() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
