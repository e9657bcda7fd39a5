"""An encoder and a decoder, from rows to generated answers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models_for_tests import Up, come_up, task_of
from more_models import TOKENIZER, write_t5
from prelort_worker.rows.row import Row
from prelort_worker.tasks.seq2seq_lm import Seq2SeqLm
from prelort_worker.tasks.text import IGNORED
from prelort_worker.training.batches import collate, mean_loss
from prelort_worker.training.nested_lora import activate, write
from prelort_worker.wire.specs import DataSpec, ModelSpec
from specs import FIT, LORA, data_spec, model_spec


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"))


def model_of(folder: Path) -> ModelSpec:
    return model_spec(folder, "seq2seq-lm", name_or_path=str(folder))


def data_of(tiny: Path, prompt: str = "kind : {gloss}", max_length: int = 32) -> DataSpec:
    """By default to say again what stands in a gloss."""
    return data_spec(tiny, "causal-lm", prompt=prompt, answer="{gloss}", max_length=max_length)


@pytest.fixture(scope="module")
def up(tiny: Path, t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Up:
    return come_up(model_of(t5), LORA, data_of(tiny), tmp_path_factory.mktemp("cache"))


def test_the_encoder_gets_the_prompt_and_the_decoder_the_answer_each_with_its_end(t5: Path):
    task = task_of(model_of(t5), t5)
    assert isinstance(task, Seq2SeqLm)
    data = data_of(t5, "Define {word}", 4)
    rows = [
        Row("a:1", {"word": "fur", "gloss": "paw tail nest"}),
        Row("a:2", {"word": "fur paw tail", "gloss": "nest"}),
    ]
    first, second = task.encode(rows, data, lambda _done, _of: None)
    told = [[TOKENIZER.decode(each[name]) for name in ("input_ids", "labels")] for each in (first, second)]
    assert told == [["Define fur </s>", "paw tail nest </s>"], ["Define fur paw </s>", "nest </s>"]]
    assert [bool(each["truncated"]) for each in (first, second)] == [False, True]
    batch = task.collate([first, second])
    assert batch["labels"].tolist()[1][2:] == [IGNORED, IGNORED] and batch["attention_mask"].sum() == 3 + 4
    assert task.count_targets(batch) == 4 + 2
    assert TOKENIZER.decode(task.prompt(first)) == "Define fur </s>"
    assert TOKENIZER.decode(task.reference(first)) == "paw tail nest </s>"


def test_the_adapters_are_on_encoder_and_decoder_and_peft_knows_the_type(up: Up):
    names = [module.name for module in up.loaded.modules]
    assert any(name.startswith("encoder.") for name in names) and any("EncDecAttention" in name for name in names)
    assert "lm_head" not in names
    assert (up.loaded.peft_type, up.loaded.modules_to_save, len(up.dense)) == ("SEQ_2_SEQ_LM", [], 0)
    assert {entry.name for entry in up.loaded.left_out} >= {"shared"}


@pytest.mark.parametrize("objective", ["stratified", "sum", "sampled", "none"])
def test_a_client_trains_it_at_its_rank(up: Up, objective: str):
    spec = replace(FIT, objective=objective, local_steps=12)
    fitted, delta = up.fit("c01", 4, spec)
    first, _ = up.fit("c01", 4, replace(spec, local_steps=1))
    assert fitted.loss is not None and first.loss is not None and fitted.loss < first.loss
    assert delta["rows"].shape[0] == 4 and any(bytes(delta["rows"].data))


@torch.no_grad()
def test_the_loss_equals_the_models_own(up: Up):
    nested = up.nested
    rows = torch.randn(8, nested.width, generator=torch.Generator().manual_seed(0)) * 0.1
    write(nested, 8, rows, up.dense)
    activate(nested, 8)
    nested.model.eval()
    batch = collate(nested.task, up.dataset, range(6), nested.device)
    assert mean_loss(nested, batch).item() == pytest.approx(nested.model(**batch.tensors).loss.item(), rel=1e-6)


@torch.no_grad()
def answer_by_hand(up: Up, index: int, new_tokens: int) -> str:
    """The likeliest next token again and again, alone, without a cache."""
    nested, example = up.nested, up.dataset.example(index)
    decoded = [TOKENIZER.pad_token_id]
    for _ in range(new_tokens):
        logits = nested.model(
            input_ids=example["input_ids"][None].long(), decoder_input_ids=torch.tensor([decoded])
        ).logits
        decoded.append(int(logits[0, -1].argmax()))
        if decoded[-1] == TOKENIZER.eos_token_id:
            break
    return TOKENIZER.decode(decoded, skip_special_tokens=True).strip()


def test_an_evaluation_generates_greedy_answers(up: Up):
    from rouge_score.rouge_scorer import RougeScorer

    silent, told = up.evaluate([2, 8]), up.evaluate([2, 8], max_new_tokens=6, batch_size=5)
    assert [tier.rouge_l_sum for tier in silent] == [None, None]
    assert [(tier.r, tier.n_examples, tier.labels) for tier in told] == [(2, 24, None), (8, 24, None)]
    assert told[0].n_tokens == sum(len(up.dataset.example(index)["labels"]) for index in range(24))
    # The last that was evaluated is the tier of rank 8.
    scorer = RougeScorer(["rougeL"])
    references = [
        TOKENIZER.decode(up.dataset.example(index)["labels"], skip_special_tokens=True) for index in range(24)
    ]
    answers = [answer_by_hand(up, index, 6) for index in range(24)]
    assert len(set(answers)) > 2
    expected = sum(scorer.score(a, b)["rougeL"].fmeasure for a, b in zip(references, answers, strict=True))
    assert told[1].rouge_l_sum == pytest.approx(expected) and expected > 0


def test_noise_reaches_the_embeddings_of_encoder_and_decoder(up: Up):
    """Which are modules of their own that share a weight with the one that the model names."""
    spec = replace(FIT, objective="none")
    plain, noisy, again = (
        up.fit("c01", 4, replace(spec, neftune_alpha=alpha))[0].loss for alpha in (0.0, 5000.0, 5000.0)
    )
    assert plain is not None and noisy is not None and abs(noisy - plain) > 0.01
    assert noisy == again
