"""Files on disk: their hashes, which of them make a model or a task, and how to write a private one."""
