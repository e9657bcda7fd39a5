"""Errors that are the user's to mend."""


class InputError(ValueError):
    """The data, the model or the config cannot be used: says where, and what to do. Reported without a traceback."""
