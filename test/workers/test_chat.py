"""Conversations as a model's chat template writes them."""

import copy
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import CPU
from more_models import CHAT_TEMPLATE, TOKENIZER
from prelort_worker.errors import InputError, Problems
from prelort_worker.row import Row
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.tasks.chat import chat_of, encode_chat
from prelort_worker.tasks.find import find_task
from specs import data_spec, model_spec

HERE = Path()
CHAT = [
    {"role": "system", "content": "kind"},
    {"role": "user", "content": "fur"},
    {"role": "assistant", "content": "paw tail"},
    {"role": "user", "content": "nest"},
    {"role": "assistant", "content": "herd"},
]


def tokenizer(template: str | None = CHAT_TEMPLATE) -> Any:
    own = copy.deepcopy(TOKENIZER)
    own.chat_template = template
    return own


def encode(chat: list[dict[str, str]], max_length: int = 64, template: str = CHAT_TEMPLATE) -> tuple[str, str, bool]:
    """The words, those of them that are learned, and whether any were cut."""
    tokens, learned, is_cut = encode_chat(tokenizer(template), chat, "chats.jsonl:3", max_length)
    assert len(tokens) == len(learned)
    kept = [token for token, flag in zip(tokens, learned, strict=True) if flag]
    return TOKENIZER.decode(tokens), TOKENIZER.decode(kept), is_cut


def test_the_loss_is_on_the_assistants_turns_and_their_ends_alone():
    words, learned, is_cut = encode(CHAT)
    assert words == (
        "system : kind </s> user : fur </s> assistant : paw tail </s> user : nest </s> assistant : herd </s>"
    )
    assert learned == "paw tail </s> herd </s>" and not is_cut


def test_the_words_of_the_assistant_are_not_learned_where_the_user_says_them():
    _, learned, _ = encode(
        [{"role": "user", "content": "paw assistant : paw"}, {"role": "assistant", "content": "paw"}]
    )
    assert learned == "paw </s>"


@pytest.mark.parametrize(
    ("max_length", "words", "learned"),
    [
        # 21 tokens in all. The end goes first, and with it the last answer.
        (
            20,
            "system : kind </s> user : fur </s> assistant : paw tail </s> user : nest </s> assistant : herd",
            "paw tail </s> herd",
        ),
        (12, "system : kind </s> user : fur </s> assistant : paw tail", "paw tail"),
        (11, "system : kind </s> user : fur </s> assistant : paw", "paw"),
    ],
)
def test_of_a_conversation_that_is_too_long_the_end_is_cut(max_length: int, words: str, learned: str):
    assert encode(CHAT, max_length) == (words, learned, True)


def test_where_nothing_to_learn_would_be_left_the_beginning_is_cut():
    assert encode(CHAT, 10) == ("tail </s> user : nest </s> assistant : herd </s>", "tail </s> herd </s>", True)
    chat = [{"role": "user", "content": "fur " * 20}, {"role": "assistant", "content": "paw"}]
    assert encode(chat, 6) == ("fur </s> assistant : paw </s>", "paw </s>", True)


def test_a_template_that_writes_earlier_answers_otherwise_is_refused_unless_there_is_one_answer():
    forgetful = CHAT_TEMPLATE.replace(
        "{{ message.content }}", "{{ message.content if loop.last or message.role != 'assistant' else 'kind' }}"
    )
    with pytest.raises(InputError, match=r"chats\.jsonl:3: the model's chat template writes a turn differently when"):
        encode(CHAT, template=forgetful)
    assert encode(CHAT[:3], template=forgetful)[1] == "paw tail </s>"


def test_a_conversation_that_the_template_refuses_is_told_by_its_line():
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHAT_TEMPLATE
    with pytest.raises(InputError, match=r"chats\.jsonl:3: the model's chat template refuses .*: no system here"):
        encode(CHAT, template=strict)


def test_a_conversation_that_begins_with_the_assistant_is_told_by_its_line():
    with pytest.raises(
        InputError, match=r"chats\.jsonl:3: begins with the assistant; expected the user, or the system"
    ):
        encode(CHAT[2:])


def test_a_prompt_and_its_answer_are_a_conversation_of_two_turns():
    data = data_spec(HERE, "causal-lm", chat=True, prompt="Define {word}", answer="{gloss}")
    row = Row("words.jsonl:1", {"word": "fur", "gloss": "paw"})
    assert chat_of(row, data) == [{"role": "user", "content": "Define fur"}, {"role": "assistant", "content": "paw"}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("fur", r"column 'turns' is no conversation; expected a list of \{\"role\""),
        ([{"role": "user"}], r"column 'turns' is no conversation"),
        ([{"role": "user", "content": 3}], r"column 'turns' is no conversation"),
        ([{"role": "user", "content": "fur"}], r"the assistant says nothing, so that there is nothing to learn"),
        ([], r"the assistant says nothing"),
    ],
)
def test_a_column_that_is_no_conversation_is_told_by_its_line(value: Any, reason: str):
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None)
    with pytest.raises(InputError, match=rf"chats\.jsonl:3: {reason}") as refused:
        chat_of(Row("chats.jsonl:3", {"turns": value}), data)
    assert refused.value.problems[0][0] == "data.messages"


def task_with(template: str | None) -> CausalLm:
    task = find_task(model_spec(HERE, "causal-lm"), CPU)
    assert isinstance(task, CausalLm)
    task.tokenizer = tokenizer(template)
    return task


def test_a_tokenizer_without_a_chat_template_is_a_problem_where_one_is_asked_for():
    for changes in ({"chat": True}, {"messages": "turns", "prompt": None, "answer": None}):
        problems = Problems()
        task_with(None).check(data_spec(HERE, "causal-lm", **changes), problems)
        with pytest.raises(InputError, match="the tokenizer has no chat template; leave out") as refused:
            problems.raise_any()
        assert refused.value.problems[0][0] == "model.name_or_path"
    problems = Problems()
    task_with(None).check(data_spec(HERE, "causal-lm"), problems)
    task_with(CHAT_TEMPLATE).check(data_spec(HERE, "causal-lm", chat=True), problems)
    assert not problems


def test_conversations_become_examples_of_which_the_last_answer_can_be_generated():
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=64)
    task = task_with(CHAT_TEMPLATE)
    (example,) = task.encode([Row("chats.jsonl:1", {"turns": CHAT})], data, lambda _done, _of: None)
    assert TOKENIZER.decode(task.prompt(example)).endswith("user : nest </s> assistant :")
    assert TOKENIZER.decode(task.reference(example)) == "herd </s>"
