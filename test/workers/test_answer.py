"""Answers of a trained model: what a user's question becomes, and what is told while an answer grows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import CHATML, PLAIN, with_template
from models_for_tests import CPU, dataset_of, payload, quiet, random_adapter, resident_of, task_of
from more_models import CHAT_TEMPLATE, write_t5
from prelort_worker.errors import InputError
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.rows.row import Row
from prelort_worker.task_runner import Resident, TaskRunner
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.tasks.question import Question, fill_from
from prelort_worker.training.batches import collate, forward
from prelort_worker.training.build import build_nested
from prelort_worker.training.generate import generate
from prelort_worker.training.nested_lora import activate, write
from prelort_worker.wire.connection import Cancelled
from prelort_worker.wire.generation_messages import Asked, Generate, Generated, Text, Turn
from prelort_worker.wire.messages import Load, Loaded, to_wire
from prelort_worker.wire.specs import DataSpec
from specs import LORA, SEED, data_spec, model_spec

NEW_TOKENS = 12
RANKS = [2, 8]


def user(text: str) -> list[Turn]:
    return [Turn("user", text)]


def asking(data: DataSpec, text: str, ranks: list[int] = RANKS, **changes: Any) -> Generate:
    task = Generate("g", 1, [Asked(r, user(text)) for r in ranks], 2.0, SEED, data, {}, False, NEW_TOKENS, 0.0, 1.0, [])
    return replace(task, **changes)


def ask(resident: Resident, task: Generate) -> tuple[Generated, dict[int, list[str]]]:
    """The reply, and the pieces that were told before it, by rank."""
    runner = TaskRunner(CPU)
    runner._resident = resident
    pieces: dict[int, list[str]] = {asked.r: [] for asked in task.asked}

    def say(text: Text) -> None:
        to_wire(text)
        assert text.text
        pieces[text.r].append(text.text)

    rows, dense = random_adapter(resident.nested, max(asked.r for asked in task.asked))
    reply, _ = runner.run(task, payload(rows=rows, dense=dense), quiet, say)
    assert isinstance(reply, Generated)
    to_wire(reply)
    return reply, pieces


def texts_of(resident: Resident, task: Generate) -> dict[int, str]:
    return {answer.r: answer.text for answer in ask(resident, task)[0].answers}


def resident_for(tiny: Path, folder: Path, task: str) -> tuple[Resident, DataSpec]:
    """A model, and the data that its examples come from: each asks with a gloss."""
    if task == "causal-lm":
        data = data_spec(tiny, "causal-lm", prompt="{gloss} :")
        resident = resident_of(tiny)
        return Resident(resident.nested, build_dataset(resident.nested.task, data, SEED, quiet)), data
    model = model_spec(tiny, "seq2seq-lm", name_or_path=str(write_t5(folder)))
    data = data_spec(tiny, "causal-lm", prompt="{gloss} :")
    dataset = build_dataset(task_of(model, folder), data, SEED, quiet)
    return Resident(build_nested(model, LORA, dataset.info, CPU, SEED), dataset), data


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq-lm"])
def test_an_answer_at_temperature_0_is_an_evaluations_and_the_told_pieces_join_to_it(
    tiny: Path, tmp_path: Path, task: str
):
    resident, data = resident_for(tiny, tmp_path, task)
    nested, dataset = resident.nested, resident.dataset
    found = set[str]()
    for example in range(6):
        prompt = nested.task.prompt(dataset.example(example))  # pyright: ignore[reportAttributeAccessIssue]
        gloss = tokenizer_of(resident).decode(prompt.tolist(), skip_special_tokens=True).removesuffix(" :")
        reply, pieces = ask(resident, asking(data, gloss))
        assert reply.form == "template" and [answer.r for answer in reply.answers] == RANKS
        for answer in reply.answers:
            write(nested, answer.r, *random_adapter(nested, answer.r))
            expected = generate(nested, answer.r, dataset, range(example, example + 1), 1, NEW_TOKENS, quiet)
            assert [answer.text] == expected and "".join(pieces[answer.r]) == answer.text
            assert answer.finish == ("length" if answer.tokens == NEW_TOKENS else "stop")
            found.add(answer.text)
    assert len(found) > 3, "all answers are the same, so this compares nothing"


def tokenizer_of(resident: Resident) -> Any:
    task: Any = resident.nested.task
    return task.tokenizer


def test_a_rank_between_tiers_answers_as_its_own_tier_would(tiny: Path, tmp_path: Path):
    resident, data = resident_for(tiny, tmp_path, "causal-lm")
    own = build_nested(model_spec(tiny, "causal-lm"), replace(LORA, tiers=[3, 8]), resident.dataset.info, CPU, SEED)
    task = asking(data, "kind nest", [3])
    assert texts_of(resident, task) == texts_of(Resident(own, resident.dataset), task)
    assert texts_of(resident, task) != texts_of(resident, asking(data, "kind nest", [8])).get(8)


def test_sampled_answers_depend_on_the_seed_and_not_on_which_other_ranks_are_asked(tiny: Path, tmp_path: Path):
    resident, data = resident_for(tiny, tmp_path, "causal-lm")
    task = asking(data, "kind nest", temperature=1.5, top_p=0.95)
    both = texts_of(resident, task)
    torch.manual_seed(5)
    assert texts_of(resident, replace(task, asked=task.asked[::-1])) == both
    assert texts_of(resident, replace(task, asked=task.asked[:1])) == {2: both[2]}
    assert texts_of(resident, replace(task, seed="f" * 32)) != both
    assert texts_of(resident, replace(task, temperature=0.0)) != both
    greedy = texts_of(resident, replace(task, top_p=1e-9))
    assert greedy == texts_of(resident, replace(task, temperature=0.0)), "only the likeliest token is left"


def test_a_cancelled_answer_ends_at_the_next_token(tiny: Path, tmp_path: Path):
    resident, data = resident_for(tiny, tmp_path, "causal-lm")
    runner = TaskRunner(CPU)
    runner._resident = resident
    reported: list[tuple[str, int]] = []

    def report(activity: str, step: int, _steps: int) -> None:
        reported.append((activity, step))
        if step == 2:
            raise Cancelled

    rows, dense = random_adapter(resident.nested, 8)
    with pytest.raises(Cancelled):
        runner.run(asking(data, "kind"), payload(rows=rows, dense=dense), report)
    assert reported == [("generate rank 2", step) for step in range(3)]


def test_a_prompt_without_room_for_an_answer_is_refused_and_an_answer_ends_at_the_last_position(
    tiny: Path, tmp_path: Path
):
    resident, data = resident_for(tiny, tmp_path, "causal-lm")
    raw = asking(data, " ".join(["kind"] * 63), raw=True)
    [answer, _] = ask(resident, raw)[0].answers
    assert (answer.tokens, answer.finish) == (1, "length")
    with pytest.raises(InputError, match="has 64 tokens, and the model has 64 positions"):
        ask(resident, asking(data, " ".join(["kind"] * 64), raw=True))


@torch.no_grad()
def test_a_classifier_answers_with_its_likeliest_labels_at_each_rank(tiny: Path):
    resident = resident_of(tiny, "sequence-classification")
    nested, dataset = resident.nested, resident.dataset
    data = data_spec(tiny, "sequence-classification")
    text = tokenizer_of(resident).decode(dataset.example(0)["input_ids"].tolist(), skip_special_tokens=True)
    reply, pieces = ask(resident, asking(data, text, max_new_tokens=1))
    assert reply.form == "template" and not any(pieces.values())
    for answer in reply.answers:
        write(nested, answer.r, *random_adapter(nested, answer.r))
        activate(nested, answer.r)
        logits = forward(nested, collate(nested.task, dataset, [0], CPU))[0].logits[0]
        expected = dict(zip(dataset.info.labels, logits.softmax(-1).tolist(), strict=True))
        assert answer.labels is not None and len(answer.labels) == min(3, len(expected))
        assert [told.probability for told in answer.labels] == sorted(expected.values(), reverse=True)[:3]
        assert all(expected[told.label] == told.probability for told in answer.labels)
        assert (answer.text, answer.finish) == (answer.labels[0].label, "stop")


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_a_model_is_loaded_without_data_and_answers_the_same(tiny: Path, tmp_path: Path, task: str):
    runner, data = TaskRunner(CPU), data_spec(tiny, task)
    labels = dataset_of(tiny, task).info.labels
    loaded, _ = runner.run(Load("l", 1, SEED, model_spec(tiny, task), LORA, None, labels, str(tmp_path)), {}, quiet)
    assert isinstance(loaded, Loaded) and runner._resident is not None
    question = asking(data, "kind nest")
    assert texts_of(runner._resident, question) == texts_of(resident_of(tiny, task), question)


def conversing(template: str) -> CausalLm:
    task = CausalLm(model_spec(Path(), "causal-lm"), CPU)
    task.tokenizer = with_template(template)
    return task


CHAT = [("user", "fur?"), ("assistant", "paw"), ("user", "nest\nof é")]
MESSAGES = data_spec(Path(), "causal-lm", messages="turns", prompt=None, answer=None, max_length=1000)


@pytest.mark.parametrize("template", [PLAIN, CHATML])
def test_a_conversation_becomes_the_prompt_that_its_training_example_has(template: str):
    task = conversing(template)
    turns = [{"role": role, "content": content} for role, content in [*CHAT, ("assistant", "herd")]]
    [example] = task.encode([Row("a:1", {"turns": turns})], MESSAGES, quiet)
    found = task.ask(Question([Turn(role, content) for role, content in CHAT], {}, False), MESSAGES)  # pyright: ignore[reportArgumentType]
    assert (found.form, found.tokens.tolist()) == ("chat", task.prompt(example).tolist())


def test_where_the_data_has_prompts_every_turn_of_the_user_fills_their_template():
    data = replace(MESSAGES, messages=None, chat=True, prompt="<{q}>", answer="{a}")
    task = conversing(PLAIN)
    found = task.ask(Question([Turn("user", "fur"), Turn("assistant", "paw"), Turn("user", "b")], {}, False), data)
    assert task.tokenizer.decode(found.tokens) == "user : <fur> </s> assistant : paw </s> user : <b> </s> assistant :"
    by_name = task.ask(Question([Turn("system", "s")], {"q": "fur"}, False), data)
    assert task.tokenizer.decode(by_name.tokens) == "system : s </s> user : <fur> </s> assistant :"


def test_an_answer_in_a_chat_ends_with_the_special_token_that_the_template_writes_after_it():
    task = conversing(CHATML)
    end = task.tokenizer.convert_tokens_to_ids("<|im_end|>")
    expected = (end,) if end in task.tokenizer.all_special_ids else ()
    assert task.ask(Question(user("fur"), {}, False), MESSAGES).stops == expected
    task.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})  # pyright: ignore[reportArgumentType]
    stops = task.ask(Question(user("fur"), {}, False), MESSAGES).stops
    assert task.tokenizer.convert_ids_to_tokens(list(stops)) == ["<|im_end|>"]


def test_what_a_chat_cannot_take_is_refused():
    task = conversing("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    refused = [
        ([], {}, "expected a conversation that ends with the user"),
        ([Turn("user", "a"), Turn("assistant", "b")], {}, "ends with the user"),
        ([Turn("system", "s"), Turn("user", "a")], {}, "does not use a system message"),
        (user("a\x00"), {}, "NUL character"),
        ([], {"q": "a"}, "this task has conversations"),
        (user("a"), {"q": "a"}, "without a prompt"),
    ]
    for messages, fields, reason in refused:
        with pytest.raises(InputError, match=reason):
            task.ask(Question(messages, fields, False), MESSAGES)


def test_a_template_is_filled_by_the_prompt_by_fields_or_not_at_all(tiny: Path):
    def prompt(messages: list[Turn], fields: dict[str, str] | None = None, raw: bool = False, **data: Any) -> Any:
        task: Any = task_of(model_spec(tiny, "causal-lm"), tiny)
        found = task.ask(Question(messages, fields or {}, raw), data_spec(tiny, "causal-lm", **data))
        return found.form, task.tokenizer.decode(found.tokens)

    assert prompt(user("fur"), prompt="Define {gloss} :") == ("template", "Define fur :")
    assert prompt(user("fur"), {"gloss": "nest"}, prompt="{word} {gloss}") == ("template", "fur nest")
    assert prompt([], {"gloss": "nest"}, prompt="Define {gloss}") == ("template", "Define nest")
    assert prompt(user("fur"), raw=True) == ("raw", "fur")
    assert prompt(user("fur"), prompt=None, answer=None, text="{word} : {gloss}") == ("text", "fur")
    refused = [
        (([Turn("system", "s"), *user("a")],), "for chat tasks"),
        ((user("a"), {"word": "b"}, True), "has no use with raw"),
        ((user("a"), {"word": "b"}), "no column left"),
        ((user("a"), {"words": "b"}), "'words' is not in data.prompt, which has word"),
        (([],), "data.prompt needs 'word'"),
    ]
    for arguments, reason in refused:
        with pytest.raises(InputError, match=reason):
            prompt(*arguments)


def test_columns_in_double_brackets_may_be_missing():
    template = "{ask}[[ : {more}]]"
    assert fill_from(template, "fur", {}, "data.prompt") == "fur"
    assert fill_from(template, "fur", {"more": "nest"}, "data.prompt") == "fur : nest"
    with pytest.raises(InputError, match="needs 'a', 'b': give each with --field"):
        fill_from("{a} {b}", "fur", {}, "data.prompt")


def test_a_chat_with_a_trained_model_is_told_as_such(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    resident = resident_of(tiny)
    monkeypatch.setattr(tokenizer_of(resident), "chat_template", CHAT_TEMPLATE)
    reply, pieces = ask(resident, asking(replace(MESSAGES, max_length=32), "kind"))
    assert reply.form == "chat" and [answer.r for answer in reply.answers] == RANKS
    assert all("".join(pieces[answer.r]) == answer.text for answer in reply.answers)


def test_a_task_that_answers_no_text_is_refused(tiny: Path):
    resident = resident_of(tiny)
    task = resident.nested.task
    other = type("Other", (type(task).__mro__[3],), {})(task.model, CPU)
    with pytest.raises(InputError, match="answers no text"):
        ask(Resident(replace(resident.nested, task=other), resident.dataset), asking(data_spec(tiny, "causal-lm"), "a"))
