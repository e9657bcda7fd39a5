"""What a model is trained to do, one kind per file. A custom task is a subclass of Task: see task.py."""

from .task import Task

__all__ = ["Task"]
