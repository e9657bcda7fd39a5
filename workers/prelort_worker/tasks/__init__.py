"""What a model is trained to do, one kind a file. A task of one's own is a subclass: see task.py."""

from .task import Task

__all__ = ["Task"]
