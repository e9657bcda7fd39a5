"""Text to text with an encoder-decoder model, such as T5."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from ..errors import InputError, Problems
from ..models import load_pretrained
from ..prepared_dataset import Example
from ..rows.row import Row
from ..rows.templates import fill
from ..wire.specs import DataSpec
from .question import Prompt, Question, alone, fill_from
from .task import Progress
from .text import BATCH, IGNORED, GenerativeTask, pad, set_tokens


class Seq2SeqLm(GenerativeTask):
    peft_type: ClassVar[str | None] = "SEQ_2_SEQ_LM"

    def check(self, data: DataSpec, problems: Problems) -> None:
        super().check(data, problems)
        with problems.gathered("model.name_or_path"):
            if self.tokenizer.eos_token_id is None:
                raise InputError("the tokenizer has no end-of-text token, which ends every answer")

    def encode(self, rows: Sequence[Row], data: DataSpec, progress: Progress) -> list[Example]:
        """The prompt for the encoder and the answer for the decoder, each truncated to max_length."""
        eos = cast(int, self.tokenizer.eos_token_id)
        examples: list[Example] = []
        for start in range(0, len(rows), BATCH):
            progress(start, len(rows))
            batch = rows[start : start + BATCH]
            sources = self._tokens([fill(data.prompt or "", row, "data.prompt") for row in batch])
            answers = self._tokens([fill(data.answer or "", row, "data.answer") for row in batch])
            for source, answer in zip(sources, answers, strict=True):
                kept = [_ended(tokens, eos, data.max_length) for tokens in (source, answer)]
                is_cut = any(len(tokens) + 1 > data.max_length for tokens in (source, answer))
                examples.append(
                    {
                        "input_ids": torch.tensor(kept[0], dtype=torch.int32),
                        "labels": torch.tensor(kept[1], dtype=torch.int32),
                        "truncated": torch.tensor(is_cut),
                    }
                )
        return examples

    def ask(self, question: Question, data: DataSpec) -> Prompt:
        text = alone(question)
        if not question.is_raw:
            text = fill_from(data.prompt or "", text, question.fields, "data.prompt")
        eos = cast(int, self.tokenizer.eos_token_id)
        tokens = _ended(self._tokens([text])[0], eos, data.max_length)
        return Prompt(torch.tensor(tokens), "raw" if question.is_raw else "template")

    def build_model(self, on_meta: bool = False) -> nn.Module:
        base = load_pretrained(AutoModelForSeq2SeqLM, self.model, self.device, on_meta, self.modules_to_save)
        return set_tokens(base, self.pad_token_id)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        return {**super().collate(examples), "labels": pad([example["labels"] for example in examples], IGNORED)}

    def forward(self, model: nn.Module, batch: Any) -> Any:
        # The decoder gets the shifted answer; the model's own loss is not used.
        return model(**batch)

    def prompt(self, example: Example) -> Tensor:
        return example["input_ids"]

    def reference(self, example: Example) -> Tensor:
        return example["labels"]

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        eos = self.tokenizer.eos_token_id
        whole = cast(list[list[int]], self.tokenizer(texts)["input_ids"])
        return [tokens[:-1] if tokens[-1:] == [eos] else tokens for tokens in whole]


def _ended(tokens: list[int], eos: int, max_length: int) -> list[int]:
    return [*tokens[: max_length - 1], eos]
