"""Pieces of a growing answer: they join to the decoded whole, and none is taken back."""

from functools import partial
from typing import Any

import pytest
from chat_templates import PLAIN, with_template
from hypothesis import given
from hypothesis import strategies as st
from more_models import TOKENIZER
from prelort_worker.training.generate import decode
from prelort_worker.training.text_stream import TextStream
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_fallback() -> Any:
    """Like Llama 2's: `▁` for a space, which the first token loses, and bytes for unknown characters."""
    bytes_ = {f"<0x{value:02X}>": value for value in range(256)}
    words = {word: 256 + index for index, word in enumerate(["▁", "▁fur", "▁paw", "s", "é", "."])}
    tokenizer = Tokenizer(models.BPE({**bytes_, **words}, [], byte_fallback=True, unk_token="<0x00>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces_of(tokenizer: Any, tokens: list[int], is_cleaned: bool = False) -> tuple[list[str], str]:
    stream = TextStream(partial(decode, tokenizer), is_cleaned)
    pieces = [stream.add([token]) for token in tokens]
    last, whole = stream.end()
    assert whole == decode(tokenizer, tokens).strip()
    return [*pieces, last], whole


BYTE_FALLBACK = byte_fallback()
TOKENIZERS = {"words": TOKENIZER, "bytes": with_template(PLAIN)}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_the_pieces_of_any_tokens_join_to_the_whole(name: str, data: st.DataObject):
    tokenizer = TOKENIZERS[name]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    pieces, whole = pieces_of(tokenizer, tokens)
    assert "".join(pieces) == whole


@given(text=st.text(max_size=12))
def test_the_pieces_of_any_text_in_bytes_join_to_it(text: str):
    tokens = [BYTE_FALLBACK.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in text.encode()]
    pieces, whole = pieces_of(BYTE_FALLBACK, tokens)
    assert "".join(pieces) == whole == text.removeprefix(" ").strip()


def test_what_a_decoder_takes_back_is_not_told_twice_and_the_whole_is_right():
    fur, *invalid = (BYTE_FALLBACK.convert_tokens_to_ids(token) for token in ("▁fur", "<0x41>", "<0xC3>"))
    pieces, whole = pieces_of(BYTE_FALLBACK, [fur, *invalid, fur])
    assert pieces == ["fur", "A", "", "", ""] and whole == "fur\ufffd\ufffd fur"


def test_a_character_of_several_tokens_comes_with_its_last_one():
    tokenizer = TOKENIZERS["bytes"]
    tokens = tokenizer("a 焚 é", add_special_tokens=False)["input_ids"]
    assert len(tokens) == len("a 焚 é".encode())
    assert pieces_of(tokenizer, tokens)[0] == ["a", "", "", "", " 焚", "", "", " é", ""]


def test_the_first_tokens_space_is_not_part_of_an_answer_and_that_of_the_next_one_is():
    tokenizer = BYTE_FALLBACK
    fur, paw, s = (tokenizer.convert_tokens_to_ids(token) for token in ("▁fur", "▁paw", "s"))
    assert pieces_of(tokenizer, [fur, s, paw])[0] == ["fur", "s", " paw", ""]


def test_white_space_at_the_end_of_an_answer_is_never_told():
    tokenizer = TOKENIZERS["bytes"]
    tokens = tokenizer("\n a\n b \n", add_special_tokens=False)["input_ids"]
    pieces, whole = pieces_of(tokenizer, tokens)
    assert (whole, [piece for piece in pieces if piece]) == ("a\n b", ["a", "\n b"])


def test_what_cleaning_may_still_join_is_held_back():
    words = ["do", " n", "'t", " go", " ."]

    def cleaned(tokens: list[int]) -> str:
        return "".join(words[token] for token in tokens).replace(" n't", "n't").replace(" .", ".")

    stream = TextStream(cleaned, is_cleaned=True)
    pieces = [stream.add([token]) for token in range(len(words))]
    last, whole = stream.end()
    assert whole == "don't go." and "".join([*pieces, last]) == whole and pieces[:2] == ["", ""]
