"""Several workers in one process, whose fits train side by side."""
