"""Errors that are the user's to mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """
    The data, the model or the config cannot be used: says where, and what to do. Reported without a traceback.
    `option` is the config's key at fault; where it is not known, whoever reports it knows the section.
    """

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.problems: list[tuple[str | None, str]] = [(option, message)]


class Problems:
    """Gathers what is wrong, so that a person hears of it all at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str | None, str]] = []

    @contextmanager
    def gathered(self, option: str | None = None) -> Iterator[None]:
        """Keeps an InputError, and goes on behind its block; `option` is at fault where the error names none."""
        try:
            yield
        except InputError as error:
            self._found += [(at or option, message) for at, message in error.problems]

    def add(self, option: str, message: str) -> None:
        self._found.append((option, message))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        if self._found:
            error = InputError("; ".join(message for _, message in self._found))
            error.problems = list(dict.fromkeys(self._found))
            raise error
