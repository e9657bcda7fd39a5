"""
Causal language modelling. Trains on the answer to a prompt, on the assistant's turns of a conversation, or, with
`text`, on all tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from ..errors import InputError, Problems, RowFaults
from ..models import load_pretrained
from ..prepared_dataset import Example
from ..rows.row import Row, file_order
from ..rows.templates import fill
from ..wire.generation_messages import PromptForm
from ..wire.specs import DataSpec
from .chat import ChatEncoder
from .chat_question import ask_in_chat
from .conversation import conversation_of
from .question import Prompt, Question, alone, fill_from
from .task import Batch, Progress
from .text import BATCH, IGNORED, GenerativeTask, pad, set_tokens

# Tokens, which of them are trained on, and whether any were cut.
Encoded = tuple[list[int], list[bool], bool]


class CausalLm(GenerativeTask):
    peft_type: ClassVar[str | None] = "CAUSAL_LM"

    def check(self, data: DataSpec, problems: Problems) -> None:
        super().check(data, problems)
        with problems.gathered("model.name_or_path"):
            if self.tokenizer.eos_token_id is None:
                raise InputError("the tokenizer has no end-of-text token, which ends every answer")
            if not (data.messages or data.chat):
                return
            if not self.tokenizer.chat_template:
                raise InputError(
                    "the tokenizer has no chat template; leave out data.chat and data.messages, or use a model that "
                    "was trained on conversations"
                )
            if not self.tokenizer.is_fast:
                raise InputError(
                    "the tokenizer does not report where in a text its tokens are, which conversations need; use a "
                    "model with a tokenizer.json"
                )

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        if data.messages is not None or data.chat:
            return self._encode_conversations(rows, data, progress)
        examples: list[Example] = []
        faults = RowFaults()
        for start in range(0, len(rows), BATCH):
            progress(start, len(rows))
            batch = rows[start : start + BATCH]
            for row, encoded in zip(batch, self._encode(batch, data), strict=True):
                with faults.of(row.where, "data"):
                    examples.append(_finished(row, *encoded, data))
        faults.raise_any(len(rows))
        return examples

    def pack(self, examples: Sequence[Example], data: DataSpec, is_training: bool) -> list[Example]:
        """
        Packs examples in order into rows of max_length; one that does not fit starts the next row. A `text` longer than
        a row is split over several; held-out prompts are not packed, so that answers can be generated for them. Pieces
        do not see one another: positions restart, and the first token of each is no target.
        """
        if not is_training and data.text is None:
            return list(examples)
        rows: list[list[Example]] = []
        room = 0
        for example in examples:
            for piece in _pieces(example, data.max_length if data.text else len(example["input_ids"])):
                length = len(piece["input_ids"])
                if not rows or length > room:
                    rows.append([])
                    room = data.max_length
                rows[-1].append(piece)
                room -= length
        return [
            _example(
                [int(token) for piece in row for token in piece["input_ids"]],
                [bool(flag) for piece in row for flag in (False, *piece["learned"][1:])],
                [range(len(piece["input_ids"])) for piece in row],
            )
            for row in rows
        ]

    def ask(self, question: Question, data: DataSpec) -> Prompt:
        """
        For conversations, with the model's chat template; otherwise the filled template of the prompt. A task that
        trains on whole texts continues the one it is given.
        """
        if (data.messages is not None or data.chat) and not question.is_raw:
            return ask_in_chat(self.tokenizer, question, data)
        text = alone(question)
        if question.is_raw or data.text is not None:
            if question.fields:
                raise InputError("has no use here: the model continues a text, and no template is filled", "fields")
            form: PromptForm = "raw" if question.is_raw else "text"
        else:
            text, form = fill_from(data.prompt or "", text, question.fields, "data.prompt"), "template"
        head = self._head(cast(list[int], self.tokenizer(text, add_special_tokens=True)["input_ids"]))
        return Prompt(torch.tensor(head), form)

    def build_model(self, on_meta: bool = False) -> nn.Module:
        base = load_pretrained(AutoModelForCausalLM, self.model, self.device, on_meta, self.modules_to_save)
        return set_tokens(base, self.pad_token_id)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        labels = [example["input_ids"].masked_fill(~example["learned"], IGNORED) for example in examples]
        batch = {**super().collate(examples), "labels": pad(labels, IGNORED)}
        if "positions" not in examples[0]:
            return batch
        # Given positions and no mask, the model keeps each piece from attending to earlier ones.
        del batch["attention_mask"]
        width = batch["input_ids"].shape[1]
        rest = [torch.arange(width - len(example["positions"])) for example in examples]
        batch["position_ids"] = torch.stack(
            [torch.cat([example["positions"].long(), more]) for example, more in zip(examples, rest, strict=True)]
        )
        return batch

    def judged(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        # Position i predicts token i + 1.
        return outputs.logits[:, :-1].float().flatten(0, 1), batch["labels"][:, 1:].flatten()

    def count_targets(self, batch: Batch) -> int:
        return int((batch["labels"][:, 1:] != IGNORED).sum())

    def spelled(self, example: Example) -> Tensor:
        # The first token of an example has no target.
        return example["input_ids"][1:][example["learned"][1:]]

    def prompt(self, example: Example) -> Tensor:
        return example["input_ids"][: _last_answer(example["learned"]).start]

    def reference(self, example: Example) -> Tensor:
        return example["input_ids"][_last_answer(example["learned"])]

    def _encode_conversations(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        """Encodes in the order of the file, so that errors and remarks name the first rows."""
        encoder, faults = ChatEncoder(self.tokenizer), RowFaults()
        examples: dict[int, Example] = {}
        for done, index in enumerate(sorted(range(len(rows)), key=lambda index: file_order(rows[index]))):
            if done % BATCH == 0:
                progress(done, len(rows))
            row = rows[index]
            with faults.of(row.where, "data.messages"):
                encoded = encoder.encode(conversation_of(row, data), data.max_length)
                examples[index] = _finished(row, *encoded, data)
        faults.raise_any(len(rows))
        self.remarks += encoder.remarks()
        return [examples[index] for index in range(len(rows))]

    def _encode(self, rows: Sequence[Row], data: DataSpec) -> Iterator[Encoded]:
        if data.text is not None:
            yield from self._encode_texts([fill(data.text, row, "data.text") for row in rows], data)
        else:
            yield from self._encode_pairs(rows, data)

    def _encode_texts(self, texts: list[str], data: DataSpec) -> Iterator[Encoded]:
        eos = cast(int, self.tokenizer.eos_token_id)
        for tokens in cast(list[list[int]], self.tokenizer(texts)["input_ids"]):
            whole = tokens if tokens[-1:] == [eos] else [*tokens, eos]
            kept = whole if data.packing else whole[: data.max_length]  # pack() splits it over rows
            yield kept, [True] * len(kept), len(kept) < len(whole)

    def _encode_pairs(self, rows: Sequence[Row], data: DataSpec) -> Iterator[Encoded]:
        """
        prompt + answer + end-of-text. The answer is joined with one space, unless the prompt is empty or ends in white
        space, and tokenised separately, so that the loss starts at a token boundary. An example that is too long loses
        the start of its prompt, down to half of max_length, then the end of its answer.
        """
        prompts = [fill(data.prompt or "", row, "data.prompt") for row in rows]
        answers = [fill(data.answer or "", row, "data.answer") for row in rows]
        joined = [
            answer if not prompt or prompt[-1].isspace() else f" {answer}"
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        heads = self.tokenizer(prompts, add_special_tokens=True)["input_ids"]
        tails = self.tokenizer(joined, add_special_tokens=False)["input_ids"]
        eos = cast(int, self.tokenizer.eos_token_id)
        for tokens, tail in zip(heads, tails, strict=True):
            head = self._head(tokens)
            tail = [*tail, eos]
            room = max(data.max_length - len(tail), data.max_length // 2, 1)
            kept = head[-room:]
            tokens = [*kept, *tail][: data.max_length]
            learned = [index >= len(kept) for index in range(len(tokens))]
            yield tokens, learned, len(head) + len(tail) > data.max_length

    def _head(self, tokens: list[int]) -> list[int]:
        """A prompt without the end token that some tokenizers append; at least one token precedes the answer."""
        eos = cast(int, self.tokenizer.eos_token_id)
        bos = self.tokenizer.bos_token_id
        return (tokens[:-1] if tokens[-1:] == [eos] else tokens) or [eos if bos is None else cast(int, bos)]


def _finished(row: Row, tokens: list[int], learned: list[bool], is_cut: bool, data: DataSpec) -> Example:
    if not any(learned[1:]):
        if is_cut:
            told = f"is cut to {data.max_length} tokens, none of which is trained on; raise it, or shorten the row"
            raise InputError(f"{row.where}: {told}", "data.max_length")
        raise InputError(f"{row.where}: has no tokens to train on", "data")
    example = _example(tokens, learned, [range(len(tokens))] if data.packing else None)
    return {**example, "truncated": torch.tensor(is_cut)}


def _example(tokens: list[int], learned: list[bool], positions: list[range] | None) -> dict[str, Tensor]:
    example = {"input_ids": torch.tensor(tokens, dtype=torch.int32), "learned": torch.tensor(learned)}
    if positions is None:
        return example
    return {
        **example,
        "positions": torch.tensor([position for each in positions for position in each], dtype=torch.int32),
    }


def _pieces(example: Example, length: int) -> Iterator[Mapping[str, Tensor]]:
    total = len(example["input_ids"])
    for start in range(0, total, length):
        piece = {name: example[name][start : start + length] for name in ("input_ids", "learned")}
        if len(piece["input_ids"]) > 1 or total == 1:  # a single token has no target
            yield piece


def _last_answer(learned: Tensor) -> slice:
    """The last run of trained tokens; others may follow, such as a user's turn or one of weight 0."""
    flags = learned.tolist()
    end = len(flags) - flags[::-1].index(True)
    start = next((index + 1 for index in range(end - 1, -1, -1) if not flags[index]), 0)
    return slice(start, end)
