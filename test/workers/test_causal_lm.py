"""Text that goes on: what is learned of a prompt's answer, of a text, and of several in one row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import CPU, random_adapter, task_of
from more_models import TOKENIZER, save_model, tiny_config
from prelort_worker.errors import InputError
from prelort_worker.prepared_dataset import DatasetInfo, Example, make_dataset
from prelort_worker.rows.row import Row
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.tasks.text import IGNORED
from prelort_worker.training.batches import Batch, forward
from prelort_worker.training.build import build_nested
from prelort_worker.training.check_forward import check_forward
from prelort_worker.training.nested_lora import NestedLora, activate, write
from specs import LORA, SEED, data_spec, model_spec
from tiny import TOPICS
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

WORDS = [word for words in TOPICS.values() for word in words]
OF_TEXT = {"prompt": None, "answer": None, "text": "{text}"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(LlamaConfig, num_key_value_heads=2)
    return save_model(tmp_path_factory.mktemp("llama"), LlamaForCausalLM, config)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("gpt2"), GPT2LMHeadModel, tiny_config(GPT2Config))


def task(model: Path) -> CausalLm:
    found = task_of(model_spec(model, "causal-lm", name_or_path=str(model)), model)
    assert isinstance(found, CausalLm)
    return found


def encode(model: Path, lines: Sequence[dict[str, Any]], **changes: Any) -> list[Example]:
    rows = [Row(f"data.jsonl:{index}", line) for index, line in enumerate(lines, start=1)]
    return task(model).encode(rows, data_spec(model, "causal-lm", **changes), lambda _done, _of: None)


def texts(*lengths: int) -> list[dict[str, Any]]:
    """Of so many words; each will have an end beside them."""
    return [{"text": " ".join(WORDS[:length])} for length in lengths]


def pack(model: Path, lines: Sequence[dict[str, Any]], is_training: bool = True, **changes: Any) -> list[Example]:
    spec = data_spec(model, "causal-lm", packing=True, **changes)
    kept = [
        {name: value for name, value in example.items() if name != "truncated"}
        for example in encode(model, lines, packing=True, **changes)
    ]
    return task(model).pack(kept, spec, is_training)


def pieces_of(example: Example) -> list[int]:
    """Their lengths."""
    starts = [index for index, position in enumerate(example["positions"].tolist()) if position == 0]
    return [stop - start for start, stop in zip(starts, [*starts[1:], len(example["positions"])], strict=True)]


def batch_of(model: Path, examples: Sequence[Example]) -> Batch:
    tensors = task(model).collate(examples)
    return Batch(tensors, task(model).count_targets(tensors), tensors)


def words_of(example: Example) -> str:
    return TOKENIZER.decode(example["input_ids"])


def test_a_pair_trains_on_the_answer_and_its_end(llama: Path):
    (example,) = encode(llama, [{"gloss": "fur paw"}], prompt="Define :", answer="{gloss}")
    assert words_of(example) == "Define : fur paw </s>"
    assert example["learned"].tolist() == [False, False, True, True, True]
    assert "positions" not in example


def test_a_text_trains_on_every_token_but_its_first(llama: Path):
    (example,) = encode(llama, texts(3), **OF_TEXT)
    assert words_of(example) == f"{' '.join(WORDS[:3])} </s>" and example["learned"].all()
    batch = batch_of(llama, [example])
    assert batch.n_targets == 3
    assert batch.tensors["labels"].tolist() == [example["input_ids"].tolist()]


@pytest.mark.parametrize(("max_length", "kept", "is_cut"), [(4, [*WORDS[:3], "</s>"], False), (3, WORDS[:3], True)])
def test_a_text_that_is_too_long_is_cut_at_its_end(llama: Path, max_length: int, kept: list[str], is_cut: bool):
    (example,) = encode(llama, texts(3), **OF_TEXT, max_length=max_length)
    assert words_of(example).split() == kept and bool(example["truncated"]) is is_cut


def test_a_text_without_a_token_to_train_on_is_reported_by_line(llama: Path):
    with pytest.raises(InputError, match=r"data\.jsonl:2: .*\btokens\b"):
        encode(llama, texts(3, 0), **OF_TEXT)


def test_next_fit_by_hand(llama: Path):
    # With their ends 3, 4, 2, 6, 7, 8 and 3 tokens, in rows of 8.
    rows = pack(llama, texts(2, 3, 1, 5, 6, 7, 2), **OF_TEXT, max_length=8)
    assert [pieces_of(row) for row in rows] == [[3, 4], [2, 6], [7], [8], [3]]


def test_a_text_longer_than_a_row_is_split_into_rows_of_at_least_two_tokens(llama: Path):
    # 13 tokens in rows of 5 are 5, 5 and 3, beside which the next text fits. 6 are a row, and one that tells nothing.
    rows = pack(llama, texts(12, 1, 5), **OF_TEXT, max_length=5)
    assert [pieces_of(row) for row in rows] == [[5], [5], [3, 2], [5]]
    words = [word for row in rows for word in words_of(row).split()]
    assert words == [*WORDS[:12], "</s>", WORDS[0], "</s>", *WORDS[:5]]


def test_a_pieces_first_token_is_not_a_target_and_its_positions_restart(llama: Path):
    (row,) = pack(llama, texts(2, 3), **OF_TEXT, max_length=8)
    assert words_of(row).split() == [*WORDS[:2], "</s>", *WORDS[:3], "</s>"]
    assert row["positions"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert row["learned"].tolist() == [False, True, True, False, True, True, True]
    batch = batch_of(llama, [row])
    assert batch.n_targets == 5 and "attention_mask" not in batch.tensors
    assert batch.tensors["labels"][0, 3] == IGNORED


PAIRS = [{"gloss": " ".join(WORDS[:length])} for length in (1, 2, 9, 3)]


def test_pairs_are_packed_whole(llama: Path):
    rows = pack(llama, PAIRS, prompt="Define :", max_length=12)
    assert [pieces_of(row) for row in rows] == [[4, 5], [12], [6]]
    assert words_of(rows[0]).split() == ["Define", ":", *WORDS[:1], "</s>", "Define", ":", *WORDS[:2], "</s>"]
    assert rows[0]["learned"].tolist() == [False, False, True, True, False, False, True, True, True]


def test_held_out_pairs_are_not_packed_but_held_out_texts_are(llama: Path):
    single = pack(llama, PAIRS, is_training=False, prompt="Define :", max_length=12)
    assert [pieces_of(example) for example in single] == [[4], [5], [12], [6]]
    assert TOKENIZER.decode(task(llama).prompt(single[1])) == "Define :"
    assert TOKENIZER.decode(task(llama).reference(single[1])).split() == [*WORDS[:2], "</s>"]
    assert len(pack(llama, texts(2, 3), is_training=False, **OF_TEXT, max_length=8)) == 1


def ready(model: Path, kind: type[CausalLm] = CausalLm) -> NestedLora:
    info = DatasetInfo("causal-lm", [], 0, TOKENIZER.pad_token_id)
    nested = build_nested(model_spec(model, "causal-lm", name_or_path=str(model)), LORA, info, CPU, SEED)
    write(nested, 8, *random_adapter(nested, 8))
    activate(nested, 8)
    nested.model.eval()
    if kind is CausalLm:
        return nested
    other = kind(nested.task.model, CPU)
    other.pad_token_id = info.pad_token_id
    return replace(nested, task=other)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@torch.no_grad()
def test_a_packed_row_gives_the_logits_and_losses_of_each_piece_alone(
    architecture: str, request: pytest.FixtureRequest
):
    model = request.getfixturevalue(architecture)
    rows = pack(model, texts(3, 4, 2, 6), **OF_TEXT, max_length=12)
    assert [pieces_of(row) for row in rows] == [[4, 5, 3], [7]], "so that one is padded"
    nested = ready(model)
    outputs, losses = forward(nested, batch_of(model, rows))
    summed = 0.0
    alone = encode(model, texts(3, 4, 2, 6), **OF_TEXT)
    for (row, start, stop), example in zip([(0, 0, 4), (0, 4, 9), (0, 9, 12), (1, 0, 7)], alone, strict=True):
        single, own = forward(nested, batch_of(model, [example]))
        torch.testing.assert_close(outputs.logits[row, start:stop], single.logits[0], atol=1e-5, rtol=0)
        summed += own.sum().item()
    assert losses.sum().item() == pytest.approx(summed, rel=1e-5)


class Blind(CausalLm):
    """Does not tell its model where a piece begins."""

    def forward(self, model: torch.nn.Module, batch: Any) -> Any:
        return super().forward(model, {name: value for name, value in batch.items() if name != "position_ids"})


def try_out(nested: NestedLora, model: Path, lengths: Sequence[int]) -> None:
    rows = pack(model, texts(*lengths), **OF_TEXT, max_length=12)
    info = DatasetInfo("causal-lm", [], 0, TOKENIZER.pad_token_id)
    check_forward(nested, make_dataset(info, rows, [len(row["input_ids"]) for row in rows], [0, len(rows), 0]))


@pytest.mark.parametrize("lengths", [[3, 4, 2], [11, 11, 3, 4, 2]])
def test_a_model_that_lets_packed_pieces_see_one_another_is_refused(llama: Path, lengths: list[int]):
    """Also where the first rows are of one piece."""
    try_out(ready(llama), llama, lengths)
    with pytest.raises(InputError, match="packed examples") as refused:
        try_out(ready(llama, Blind), llama, lengths)
    assert refused.value.problems[0][0] == "data.packing"


def test_rows_of_one_piece_each_have_nothing_to_mix(llama: Path):
    try_out(ready(llama, Blind), llama, [11, 11])
