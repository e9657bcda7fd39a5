"""An answer as text while its tokens arrive: only what later tokens cannot change is given out."""

import re
from collections.abc import Callable

# How a decoder spells bytes that are not a whole character yet.
_UNFINISHED = re.compile("\ufffd+$")
# Cleaning joins " n't", " 've" and punctuation to the word before them; no pattern is longer.
_CLEANED = 4


class TextStream:
    """
    Decodes the whole answer at every token, so that joining the pieces gives the text that decoding it at once gives:
    tokenizers write a token differently at the beginning, and a character may take several tokens. White space is held
    back until something follows, since the answer is stripped. Where a decoder takes back what it gave, as one with
    byte fallback does at bytes that are no text, nothing is told until it agrees again; the whole text is right.
    """

    def __init__(self, decode: Callable[[list[int]], str], is_cleaned: bool = False) -> None:
        self._decode = decode
        self._held = _CLEANED if is_cleaned else 0
        self.tokens: list[int] = []
        self._sent = ""

    def add(self, tokens: list[int]) -> str:
        """The next piece; empty while nothing is certain."""
        self.tokens += tokens
        certain = _UNFINISHED.sub("", self._decode(self.tokens).lstrip())
        return self._advance(certain[: max(0, len(certain) - self._held)].rstrip())

    def end(self) -> tuple[str, str]:
        """The last piece, and the whole text."""
        whole = self._decode(self.tokens).strip()
        return self._advance(whole), whole

    def _advance(self, text: str) -> str:
        if not text.startswith(self._sent):
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece
