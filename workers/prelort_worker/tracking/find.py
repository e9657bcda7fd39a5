"""The trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .tracker import Tracker

NAMES = ("tensorboard", "mlflow", "wandb", "trackio")


def find_tracker(name: str, options: Mapping[str, Any], directory: Path) -> Callable[[], Tracker]:
    """Imports the tracker's client: an ImportError says that its environment lacks it."""
    module = import_module(f"{__package__}.to_{name}")
    return lambda: module.open_tracker(options, directory)
