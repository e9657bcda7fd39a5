"""Conversations as a model's chat template renders them: what is learned, refused and remarked."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_templates import ADDING, CHATML, LLAMA, MISTRAL, PARTS, PLAIN, REASONING, with_template
from models_for_tests import CPU, come_up, quiet
from more_models import CHAT_TEMPLATE, TOKENIZER
from prelort_worker.errors import InputError, Problems
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.rows.read import read_rows
from prelort_worker.rows.row import Row
from prelort_worker.tasks.causal_lm import CausalLm
from prelort_worker.tasks.chat import ChatEncoder
from prelort_worker.tasks.conversation import Conversation, conversation_of
from prelort_worker.tasks.find import find_task
from specs import LORA, SEED, data_spec, model_spec
from tiny import TOPICS, build_tokenizer, write_models

HERE = Path()
DATA = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=64)
CHAT = [
    {"role": "system", "content": "kind"},
    {"role": "user", "content": "fur"},
    {"role": "assistant", "content": "paw tail"},
    {"role": "user", "content": "nest"},
    {"role": "assistant", "content": "herd"},
]
USER = {"role": "user", "content": "fur"}


def tokenizer(template: str | None = CHAT_TEMPLATE) -> Any:
    own = copy.deepcopy(TOKENIZER)
    own.chat_template = template
    return own


def conversation(turns: Any, **columns: Any) -> Conversation:
    return conversation_of(Row("chats.jsonl:3", {"turns": turns, **columns}), DATA)


def encode(chat: list[dict[str, str]], max_length: int = 64, template: str = CHAT_TEMPLATE) -> tuple[str, str, bool]:
    """The words, those of them that are learned, and whether any were cut."""
    tokens, learned, is_cut = ChatEncoder(tokenizer(template)).encode(conversation(chat), max_length)
    assert len(tokens) == len(learned)
    kept = [token for token, flag in zip(tokens, learned, strict=True) if flag]
    return TOKENIZER.decode(tokens), TOKENIZER.decode(kept), is_cut


def learned_of(template: str, turns: Any, **columns: Any) -> tuple[list[str], list[str]]:
    """Every learned stretch, to the character, and the remarks."""
    of_bytes = with_template(template)
    encoder = ChatEncoder(of_bytes)
    tokens, learned, _ = encoder.encode(conversation(turns, **columns), 10_000)
    stretches: list[list[int]] = []
    for index, token in enumerate(tokens):
        if learned[index]:
            stretches = stretches if index and learned[index - 1] else [*stretches, []]
            stretches[-1].append(token)
    return [of_bytes.decode(each) for each in stretches], encoder.remarks()


def rendered(template: str, turns: Any, **columns: Any) -> str:
    of_bytes = with_template(template)
    return of_bytes.decode(ChatEncoder(of_bytes).encode(conversation(turns, **columns), 10_000)[0])


def assistant(content: Any = None, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


def call(arguments: Any = '{"a": 1}', name: str = "drill") -> dict[str, Any]:
    return {"id": "call12345", "type": "function", "function": {"name": name, "arguments": arguments}}


def with_call(**changes: Any) -> list[dict[str, Any]]:
    result = {"role": "tool", "tool_call_id": "call12345", "content": "42"}
    return [USER, {**assistant(tool_calls=[call()]), **changes}, result, assistant("paw")]


def test_the_loss_covers_only_the_assistants_turns_and_their_ends():
    words, learned, is_cut = encode(CHAT)
    assert words == (
        "system : kind </s> user : fur </s> assistant : paw tail </s> user : nest </s> assistant : herd </s>"
    )
    assert learned == "paw tail </s> herd </s>" and not is_cut


def test_the_users_turns_are_not_trained_on_even_with_the_assistants_words():
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
def test_a_long_conversation_loses_its_end(max_length: int, words: str, learned: str):
    assert encode(CHAT, max_length) == (words, learned, True)


def test_a_long_conversation_loses_its_beginning_if_no_trained_token_would_remain():
    assert encode(CHAT, 10) == ("tail </s> user : nest </s> assistant : herd </s>", "tail </s> herd </s>", True)
    chat = [{"role": "user", "content": "fur " * 20}, {"role": "assistant", "content": "paw"}]
    assert encode(chat, 6) == ("fur </s> assistant : paw </s>", "paw </s>", True)


def test_a_template_that_writes_earlier_answers_differently_is_refused_unless_there_is_one_answer():
    forgetful = CHAT_TEMPLATE.replace(
        "{{ message.content }}", "{{ message.content if loop.last or message.role != 'assistant' else 'kind' }}"
    )
    with pytest.raises(InputError, match=r"chats\.jsonl:3: message 3: .*\bcontent \(role 'assistant'\)"):
        encode(CHAT, template=forgetful)
    assert encode(CHAT[:3], template=forgetful)[1] == "paw tail </s>"


def test_a_conversation_that_the_template_refuses_is_reported_with_its_line():
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHAT_TEMPLATE
    with pytest.raises(InputError, match=r"chats\.jsonl:3: message 1: .*: no system here$"):
        encode(CHAT, template=strict)


def test_a_conversation_that_begins_with_the_assistant_is_reported_with_its_line():
    with pytest.raises(InputError, match=r"chats\.jsonl:3: message 1: .*\bassistant\b"):
        encode(CHAT[2:])


def test_a_prompt_and_its_answer_are_a_conversation_of_two_turns():
    data = data_spec(HERE, "causal-lm", chat=True, prompt="Define {word}", answer="{gloss}")
    row = Row("words.jsonl:1", {"word": "fur", "gloss": "paw"})
    chat = conversation_of(row, data)
    assert chat.messages == [{"role": "user", "content": "Define fur"}, {"role": "assistant", "content": "paw"}]
    assert chat.learned == [False, True]


# Every template learns exactly the call and the answer, whatever form the arguments and the empty content have.
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
@pytest.mark.parametrize(
    ("template", "stretches"),
    [
        (ADDING, [" tool drill </s> ", "paw </s> "]),
        (
            CHATML,
            [
                '<tool_call>\n{"name": "drill", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n',
                "paw<|im_end|>\n",
            ],
        ),
        (
            REASONING,
            ['\n<tool_call>drill {"a": 1}</tool_call><|im_end|>\n', "<think>\n\n</think>\n\npaw<|im_end|>\n"],
        ),
        (LLAMA, ['{"name": "drill", "parameters": {"a": 1}}<|eot|>', "paw<|eot|>"]),
        (MISTRAL, ['[TOOL_CALLS][{"name": "drill", "arguments": {"a": 1}}]</s>', " paw</s>"]),
    ],
)
def test_a_tool_call_is_trained_on_as_the_template_renders_it(
    template: str, stretches: list[str], arguments: Any, content: Any
):
    assert learned_of(template, with_call(content=content, tool_calls=[call(arguments)]))[0] == stretches


def test_arguments_as_a_map_are_written_as_json_where_the_template_adds_strings():
    adding = ADDING.replace("c['function']['name']", "c['function']['name'] + c['function']['arguments']")
    printing = ADDING.replace("c['function']['name']", "c['function']['name'] ~ c['function']['arguments']")
    for template in (adding, printing):
        (first, _), _ = learned_of(template, with_call(tool_calls=[call({"a": 1})]))
        assert first == ' tool drill{"a": 1} </s> '


def test_a_call_may_be_a_bare_function_and_the_list_of_calls_json():
    for calls in ([{"name": "drill", "arguments": {"a": 1}}], json.dumps([call()]), call()):
        assert learned_of(CHATML, [USER, assistant(tool_calls=calls)])[0] == [
            '<tool_call>\n{"name": "drill", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        ]


@pytest.mark.parametrize(
    ("template", "turns", "reason"),
    [
        (PLAIN, with_call(), r"message 2: .*\btool_calls\b"),
        (PLAIN, with_call(content="nest"), r"message 2: .*\btool_calls\b"),
        (PLAIN, [USER, assistant(function_call=call()["function"])], r"message 2: .*\bfunction_call\b"),
        (PLAIN, [USER, assistant("paw", reasoning_content="hm")], r"message 2: .*\breasoning_content\b"),
        (PLAIN, [USER, assistant(refusal="no")], r"message 2: .*\brefusal\b"),
        (LLAMA, with_call(content="nest"), r"message 2: .*\bcontent \(role 'assistant'\)"),
        (LLAMA, with_call(tool_calls=[call(), call()]), "message 2: .*: one tool call at"),
        (CHATML, [{"role": "narrator", "content": "x"}, *with_call()], r"message 1: .*\bcontent \(role 'narrator'"),
        (MISTRAL, [{"role": "narrator", "content": "x"}, *with_call()], "message 1: .*, got narrator"),
        (
            REASONING,
            [USER, assistant("paw", reasoning_content="hm"), USER, assistant("tail")],
            r'message 2: .*\breasoning_content\b.*"weight": 0',
        ),
        (
            REASONING,
            [USER, assistant("<think>\nhm\n</think>\n\npaw"), USER, assistant("tail")],
            r'message 2: .*"weight": 0',
        ),
        (
            CHATML.replace("call.function.arguments | tojson", "call.function.arguments"),
            with_call(tool_calls=[call({"a": {"b": "'"}})]),
            None,
        ),
        (
            ADDING.replace("m['tool_calls']", "m['tool_calls'][:1]"),
            with_call(tool_calls=[call(), call(name="lever")]),
            "message 2: .* tool call 2;",
        ),
    ],
)
def test_content_that_the_template_leaves_out_is_refused(template: str, turns: Any, reason: str | None):
    if reason is None:
        assert '{"a": {"b": "\'"}}' in learned_of(template, turns)[0][0]
        return
    with pytest.raises(InputError, match=rf"^chats\.jsonl:3: {reason}"):
        learned_of(template, turns)


def test_reasoning_is_trained_on_if_the_template_keeps_it():
    for key in ("reasoning_content", "reasoning"):
        earlier = assistant("tail", weight=0, **{key: "hm"})
        stretches, remarks = learned_of(REASONING, [USER, earlier, USER, assistant("paw", **{key: "so"})])
        assert (stretches, remarks) == (["<think>\nso\n</think>\n\npaw<|im_end|>\n"], [])


def test_an_earlier_turn_is_trained_on_without_the_prefix_of_the_last_one():
    stretches, _ = learned_of(REASONING, [USER, assistant("paw"), USER, assistant("paw")])
    assert stretches == ["paw<|im_end|>\n", "<think>\n\n</think>\n\npaw<|im_end|>\n"]


@pytest.mark.parametrize("weight", [0, 0.0, False])
def test_a_turn_of_weight_0_is_not_trained_on_and_its_weight_not_rendered(weight: Any):
    showing = PLAIN.replace("{{ message.content }}", "{{ message.content }}{{ message.weight }}")
    turns = [USER, assistant("bad", weight=weight), {**USER, "weight": 0}, assistant("paw", weight=1)]
    assert learned_of(showing, turns) == ([" paw </s> "], [])
    assert "bad </s>" in rendered(showing, turns)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([USER, assistant("paw", weight=0.5)], r"message 2: .*\bweight\b.* 0\.5;.*\b0\b.*\b1\b"),
        ([USER, assistant("paw", weight="0")], r'message 2: .*\bweight\b.* "0";.*\b0\b.*\b1\b'),
        (
            [{**USER, "weight": 1}, assistant("paw")],
            r"message 1: .*\bweight\b.*\b1\b.*'user'",
        ),
        ([USER, assistant("paw", weight=0)], r".*\bweight 0\b"),
        ([USER, assistant(" ")], r".*\bempty\b"),
        ([USER], "the assistant says nothing"),
        ([], "the assistant says nothing"),
        ("fur", r'column \'turns\' .*\bJSON\b.*"fur";.*\{"role"'),
        ("[{'role': 'user'}]", r"column 'turns' .*\bjson\.dumps\b"),
        ({"role": "user"}, r'column \'turns\' .*\{"role": "user"\};.*\{"from"'),
        (["fur", "paw"], r'message 1: .*"fur";.*\{"role"'),
        ([{"role": "user"}], r"message 1: .*\bcontent\b"),
        ([USER, assistant(None)], r"message 2: .*\bcontent\b"),
        ([USER, assistant(None, tool_calls=[])], r"message 2: .*\bcontent\b"),
        ([{"role": "user", "content": 3}], r"message 1: .*\bcontent\b.*\b3\b"),
        ([{"content": "fur"}], r"message 1: .*\brole\b.*\bnull\b"),
        ([{"role": " ", "content": "fur"}], r'message 1: .*\brole\b.*" "'),
        ([USER, {"from": "gpt", "value": "paw"}], "message 2: .*'from'.*'role' and 'content'"),
        ([{**USER, "value": "fur"}], "message 1: .*'value'.*'role' and 'content'"),
        ([{"from": "human", "value": "fur"}, assistant("x")], "message 2: .*'role'.*'from' and 'value'"),
        ([{"from": "human", "content": "fur"}], "message 1: .*'content'.*'from' and 'value'"),
        (
            [USER, assistant([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}])],
            "message 2: part 2 .*'image_url'",
        ),
        ([{"role": "user", "content": [{"type": "text"}]}], r'message 1: part 1 .*\{"type": "text"\}'),
        (
            [USER, assistant(tool_calls=[{"id": "c1"}])],
            r"message 2: tool call 1 .*;.*\{\"type\": \"function",
        ),
        ([USER, assistant(tool_calls="drill")], r"message 2: .*\btool call\b.*\bJSON\b.*drill"),
        ([USER, assistant(tool_calls=3)], r"message 2: .*\btool_calls\b.*\b3\b"),
        (json.dumps([USER, assistant("\ud800")]), r"message 2\.content .*\bU\+D800\b"),
        ([{"role": "user", "content": "a\0b"}], r"message 1\.content .*\bU\+0000\b"),
    ],
)
def test_an_invalid_conversation_is_reported_by_line_and_message(turns: Any, reason: str):
    task = task_with(None)
    task.tokenizer = with_template(PLAIN)
    with pytest.raises(InputError, match=rf"^chats\.jsonl:3: {reason}") as refused:
        task.encode([Row("chats.jsonl:3", {"turns": turns})], DATA, quiet)
    assert [option for option, _ in refused.value.problems] == ["data.messages"]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "User", "content": "fur"}, {"role": "ASSISTANT ", "content": "paw"}],
        [{"role": "human", "content": "fur"}, {"role": "gpt", "content": "paw"}],
        [{"from": "human", "value": "fur"}, {"from": "gpt", "value": "paw"}],
        [{"from": "User", "value": "fur"}, {"from": "ChatGPT", "value": "paw"}],
        [{"from": "human", "value": "fur", "weight": None}, {"from": "bing", "value": "paw", "weight": 1}],
        json.dumps([USER, assistant("paw")]),
        json.dumps([{"from": "human", "value": "fur"}, {"from": "model", "value": "paw"}]),
        [
            {"role": "user", "content": [{"type": "text", "text": "fur"}]},
            assistant([{"type": "output_text", "text": "paw"}]),
        ],
        [{"role": "user", "content": {"type": "text", "text": "fur", "image": None}}, assistant(["paw"])],
        [{**USER, "tool_calls": None, "name": None}, assistant("paw", tool_calls=[], function_call=None)],
    ],
)
def test_conversations_of_other_forms_are_accepted(turns: Any):
    assert rendered(PLAIN, turns) == "user : fur </s> assistant : paw </s> "
    assert learned_of(PLAIN, turns) == ([" paw </s> "], [])


def test_a_role_is_renamed_if_the_template_knows_only_its_synonym():
    result = {"role": "function", "name": "drill", "content": "42"}
    turns = [{"role": "developer", "content": "kind"}, *with_call()[:2], result, assistant("paw")]
    assert rendered(CHATML, turns) == rendered(CHATML, [{"role": "system", "content": "kind"}, *with_call()])
    assert rendered(PLAIN, [turns[0], USER, assistant("paw")]).startswith("developer : kind")


def test_a_system_prompt_in_its_own_column_causes_a_remark():
    assert learned_of(PLAIN, [USER, assistant("paw")], system="kind") == (
        [" paw </s> "],
        ["the model's chat template does not use system: chats.jsonl:3"],
    )


def test_sharegpts_turns_for_calls_and_results_are_read():
    turns = [
        {"from": "human", "value": "fur"},
        {"from": "function_call", "value": '{"name": "drill", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "paw"},
    ]
    assert rendered(CHATML, turns) == rendered(CHATML, with_call())


def test_parts_are_rendered_as_the_template_does_or_as_lines():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}, {"type": "text", "text": "c"}]
    turns = [{"role": "user", "content": parts}, assistant(parts)]
    assert learned_of(PARTS, turns)[0] == ["a|b|c|<end>\n"]
    assert learned_of(PLAIN, turns)[0] == [" a\nb c </s> "]
    assert learned_of(CHATML, turns)[0] == ["a\nb c<|im_end|>\n"]


def test_an_empty_turn_of_the_assistant_is_not_trained_on_and_causes_a_remark():
    for template, stretches in ((CHATML, ["paw<|im_end|>\n"]), (REASONING, ["<think>\n\n</think>\n\npaw<|im_end|>\n"])):
        found, remarks = learned_of(template, [USER, assistant(""), USER, assistant("paw")])
        assert found == stretches
        assert remarks == ["assistant turns that render as empty are not trained on: chats.jsonl:3, message 2"]


def test_tools_and_other_variables_beside_the_messages_go_to_the_template():
    tool = {"type": "function", "function": {"name": "drill"}}
    for tools in ([tool], json.dumps([tool]), [json.dumps(tool)]):
        assert rendered(CHATML, with_call(), tools=tools).startswith(
            '<|im_start|>system\nTools: {"type": "function", "function": {"name": "drill"}}<|im_end|>\n'
        )
    answer = [USER, assistant("paw")]
    quiet_answer = learned_of(REASONING, answer, chat_template_kwargs={"enable_thinking": False, "absent": None})
    assert quiet_answer == (["paw<|im_end|>\n"], [])
    with pytest.raises(InputError, match=r"chats\.jsonl:3: column 'chat_template_kwargs' sets 'chat_template'"):
        learned_of(PLAIN, answer, chat_template_kwargs='{"chat_template": "x"}')
    with pytest.raises(InputError, match=r"column 'tools' .*(\[\"drill\"\]|\bJSON\b)"):
        learned_of(PLAIN, answer, tools=["drill"])
    nested = conversation_of(
        Row("chats.jsonl:3", {"sample": {"turns": answer, "tools": [tool]}}),
        data_spec(HERE, "causal-lm", messages="sample.turns", prompt=None, answer=None),
    )
    assert nested.variables == {"tools": [tool]}


def test_context_that_no_rendering_uses_causes_one_remark():
    encoder = ChatEncoder(with_template(ADDING))
    for line in range(1, 6):
        row = Row(
            f"chats.jsonl:{line}", {"turns": [{**USER, "mood": "calm"}, *with_call()[1:]], "tools": [{"name": "x"}]}
        )
        encoder.encode(conversation_of(row, DATA), 1000)
    start = "the model's chat template does not use"
    assert encoder.remarks() == [
        f"{start} mood of user messages: chats.jsonl:1, message 1 and 4 more",
        f"{start} the arguments in tool_calls of assistant messages: chats.jsonl:1, message 2 and 4 more",
        f"{start} tool_call_id of tool messages: chats.jsonl:1, message 3 and 4 more",
        f"{start} tools: chats.jsonl:1 and 4 more",
    ]
    assert learned_of(MISTRAL, with_call())[1] == []


def test_a_role_unknown_to_templates_causes_one_remark():
    encoder = ChatEncoder(with_template(PLAIN))
    for line in range(1, 5):
        turns = [{"role": "system", "content": "kind"}, {"role": "usr", "content": "fur"}, assistant("paw")]
        encoder.encode(conversation_of(Row(f"chats.jsonl:{line}", {"turns": turns}), DATA), 1000)
    known = "unknown to chat templates (system, user, assistant, tool)"
    assert encoder.remarks() == [f"role usr is {known}: chats.jsonl:1, message 2 and 3 more"]


@pytest.mark.parametrize("arguments", ['{"bad', "city=Oslo"])
def test_arguments_that_are_text_but_not_json_are_refused(arguments: str):
    turns = [{"role": "system", "content": "kind"}, USER, assistant(tool_calls=[call(arguments, "weather")])]
    with pytest.raises(InputError) as refused:
        conversation(turns)
    assert re.match(r"chats\.jsonl:3: message 3: .*\bweather\b.*\bJSON\b", str(refused.value))
    assert conversation([USER, assistant(tool_calls=[call("")])]).learned == [False, True]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [
        "user",
        "assistant",
        "tool",
        "drill",
        "bad",
        "system",
        *(w for each in TOPICS.values() for w in each),
        *TOPICS,
    ]
    own = build_tokenizer(list(dict.fromkeys([":", *words])))
    own.chat_template = ADDING
    folder = tmp_path_factory.mktemp("chat")
    write_models(folder, own)
    return folder


CALLS = [{"id": "c1", "type": "function", "function": {"name": "drill", "arguments": '{"a":1}'}}]
RESULT = [{"role": "tool", "tool_call_id": "c1", "content": "animal"}, {"role": "assistant", "content": "animal"}]


@pytest.mark.parametrize(
    ("turns", "learned"),
    [
        ([USER, {"role": "assistant", "content": "", "tool_calls": CALLS}], "tool drill </s>"),
        ([USER, {"role": "assistant", "content": "", "tool_calls": CALLS}, *RESULT], "tool drill </s> animal </s>"),
        ([USER, {"role": "assistant", "content": None, "tool_calls": CALLS}, *RESULT], "tool drill </s> animal </s>"),
        ([USER, assistant("bad bad", weight=0), USER, assistant("animal", weight=1)], "animal </s>"),
        ([{"from": "human", "value": "fur"}, {"from": "gpt", "value": "animal"}], "animal </s>"),
        (
            [
                {"role": "user", "content": [{"type": "text", "text": "fur"}]},
                assistant([{"type": "text", "text": "animal"}]),
            ],
            "animal </s>",
        ),
        (json.dumps([USER, assistant("animal")]), "animal </s>"),
    ],
    ids=["call alone", "call with empty content", "call with null", "weight 0", "ShareGPT", "parts", "JSON"],
)
def test_prepared_conversations_mark_trained_tokens_and_can_be_evaluated(
    chat_model: Path, tmp_path: Path, turns: Any, learned: str
):
    path = write_lines(tmp_path / "chats.jsonl", [{"turns": turns}] * 30)
    data = data_spec(HERE, "causal-lm", path=str(path), messages="turns", prompt=None, answer=None, eval_examples=4)
    model = model_spec(HERE, "causal-lm", name_or_path=str(chat_model / "tiny-llama"))
    up = come_up(model, LORA, data, tmp_path / "cache")
    example = up.dataset.example(0)
    words = up.nested.task.tokenizer  # pyright: ignore[reportAttributeAccessIssue] - a text task's
    assert words.decode(example["input_ids"][example["learned"]]) == learned
    (sums,) = up.evaluate([2], max_new_tokens=4)
    assert sums.rouge_l_sum is not None and sums.n_tokens == 4 * int(example["learned"].sum())


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_faulty_line_is_reported_in_the_files_order(tmp_path: Path):
    faulty = [*with_call()[:1], assistant(tool_calls=[call()])]
    rows = [{"turns": faulty if line % 2 else [{"role": "user"}]} for line in range(1, 31)]
    path = write_lines(tmp_path / "chats.jsonl", rows)
    data = data_spec(HERE, "causal-lm", path=str(path), messages="turns", prompt=None, answer=None, eval_examples=4)
    with pytest.raises(InputError) as refused:
        build_dataset(task_with(CHAT_TEMPLATE), data, SEED, quiet)
    told = str(refused.value)
    assert told.startswith(f"{path}:1, {path}:3, {path}:5, {path}:7, {path}:9 and 10 more rows: message 2: ")
    assert f"{path}:2, {path}:4, {path}:6, {path}:8, {path}:10 and 10 more rows: message 1: " in told


def test_remarks_on_conversations_are_stored_in_the_dataset(tmp_path: Path):
    rows = [{"turns": [{**USER, "mood": "calm"}, assistant("paw"), USER, assistant("")]}] * 30
    path = write_lines(tmp_path / "chats.jsonl", rows)
    data = data_spec(HERE, "causal-lm", path=str(path), messages="turns", prompt=None, answer=None, eval_examples=4)
    assert build_dataset(task_with(CHAT_TEMPLATE), data, SEED, quiet).info.remarks == [
        f"the model's chat template does not use mood of user messages: {path}:1, message 1 and 29 more",
        f"assistant turns that render as empty are not trained on: {path}:1, message 4; {path}:2, "
        f"message 4; {path}:3, message 4; and 27 more",
    ]


def test_a_parquet_file_gives_messages_only_the_keys_they_had(tmp_path: Path):
    from datasets import Dataset

    calls = [call({"a": 1}), call({"b": "x"}, "lever")]
    Dataset.from_list([{"turns": [USER, assistant(tool_calls=[each])]} for each in calls]).to_parquet(
        tmp_path / "chats.parquet"
    )
    rows = read_rows(str(tmp_path / "chats.parquet"))
    assert [learned_of(MISTRAL, row.columns["turns"])[0] for row in rows] == [
        ['[TOOL_CALLS][{"name": "drill", "arguments": {"a": 1}}]</s>'],
        ['[TOOL_CALLS][{"name": "lever", "arguments": {"b": "x"}}]</s>'],
    ]


def test_a_missing_column_is_reported_with_the_one_that_holds_conversations():
    row = Row("chats.jsonl:1", {"text": "x", "conversations": [{"from": "human", "value": "fur"}]})
    with pytest.raises(InputError, match=r"'turns'.*'conversations'"):
        conversation_of(row, DATA)


def task_with(template: str | None) -> CausalLm:
    task = find_task(model_spec(HERE, "causal-lm"), CPU)
    assert isinstance(task, CausalLm)
    task.tokenizer = tokenizer(template)
    return task


def test_a_tokenizer_without_a_chat_template_is_reported_if_the_config_needs_one():
    for changes in ({"chat": True}, {"messages": "turns", "prompt": None, "answer": None}):
        problems = Problems()
        task_with(None).check(data_spec(HERE, "causal-lm", **changes), problems)
        with pytest.raises(InputError, match="chat template") as refused:
            problems.raise_any()
        assert refused.value.problems[0][0] == "model.name_or_path"
    problems = Problems()
    task_with(None).check(data_spec(HERE, "causal-lm"), problems)
    task_with(CHAT_TEMPLATE).check(data_spec(HERE, "causal-lm", chat=True), problems)
    assert not problems


def test_the_last_answer_of_a_conversation_can_be_generated():
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=64)
    task = task_with(CHAT_TEMPLATE)
    (example,) = task.encode([Row("chats.jsonl:1", {"turns": CHAT})], data, lambda _done, _of: None)
    assert TOKENIZER.decode(task.prompt(example)).endswith("user : nest </s> assistant :")
    assert TOKENIZER.decode(task.reference(example)) == "herd </s>"


def test_a_tool_call_as_the_last_answer_can_be_generated():
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=1000)
    task = task_with(None)
    task.tokenizer = with_template(CHATML)
    (example,) = task.encode([Row("chats.jsonl:1", {"turns": with_call()[:2]})], data, quiet)
    assert task.tokenizer.decode(task.prompt(example)).endswith("fur<|im_end|>\n<|im_start|>assistant\n")
    assert task.tokenizer.decode(task.reference(example)).startswith('<tool_call>\n{"name": "drill", "arguments": {"a"')


@pytest.mark.parametrize("last", [{"role": "user", "content": "thanks"}, assistant("bad", weight=0)])
def test_the_reference_ends_with_the_last_trained_answer(last: dict[str, Any]):
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=1000)
    task = task_with(None)
    task.tokenizer = with_template(PLAIN)
    row = Row("chats.jsonl:1", {"turns": [USER, assistant("good"), *([USER] if last["role"] != "user" else []), last]})
    (example,) = task.encode([row], data, quiet)
    assert task.tokenizer.decode(task.prompt(example)) == "user : fur </s> assistant :"
    assert task.tokenizer.decode(task.reference(example)) == " good </s> "


def test_half_a_surrogate_pair_that_only_the_rendering_shows_is_refused():
    escaped = with_call()
    escaped[1]["tool_calls"] = [call('{"a": "\\ud83d"}')]
    with pytest.raises(InputError, match=r"chat template .*\bU\+D83D\b"):
        rendered(CHATML, escaped)
    with pytest.raises(InputError, match=r"column 'system' .*\bU\+D83D\b"):
        rendered("{{ system }}" + PLAIN, [USER, assistant("paw")], system="kind \ud83d")
    # As text it is eight plain characters, which a template may write as they are.
    assert '{"a": "\\ud83d"}' in rendered(REASONING, escaped)


def test_a_template_that_refuses_empty_answers_may_render_a_call_without_content():
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' and not m.content and not m.tool_calls %}"
        "{{ raise_exception('Assistant message must have content or tool calls') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}CALL {{ c.function.name }}"
        "{{ c.function.arguments }}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    stretches, remarks = learned_of(template, with_call())
    assert stretches[0] == 'CALL drill{"a": 1}</s>'
    assert not any("tool_calls" in remark for remark in remarks)


def test_arguments_are_given_as_a_map_to_a_template_that_leaves_out_text():
    template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}CALL "
        "{{ c.function.name }}{% if c.function.arguments is mapping %}{% for k, v in c.function.arguments.items() %}"
        " {{ k }}={{ v }}{% endfor %}{% endif %}{% endfor %}</s>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    stretches, remarks = learned_of(template, with_call())
    assert stretches[0] == "CALL drill a=1</s>"
    assert not any("arguments" in remark for remark in remarks)


def test_a_template_that_writes_the_date_gives_the_same_text_on_every_day():
    stretches, remarks = learned_of("{{ strftime_now('%d %b %Y') }} " + PLAIN, [USER, assistant("paw")])
    assert stretches == [" paw </s> "]
    assert len(remarks) == 1 and "26 Jul 2024" in remarks[0]
    assert rendered("{{ strftime_now('%Y') }} " + PLAIN, [USER, assistant("paw")]).startswith("2024 user")
    assert learned_of(PLAIN, [USER, assistant("paw")])[1] == []


def test_a_conversation_that_max_length_leaves_without_trained_tokens_is_refused_by_that_key():
    data = data_spec(HERE, "causal-lm", messages="turns", prompt=None, answer=None, max_length=20)
    task = task_with(None)
    task.tokenizer = with_template(PLAIN)
    long = {"role": "user", "content": "fur " * 50}
    with pytest.raises(InputError, match=r"\b20 tokens\b") as refused:
        task.encode([Row("chats.jsonl:1", {"turns": [long, assistant("paw"), long]})], data, quiet)
    assert refused.value.problems[0][0] == "data.max_length"


@pytest.mark.parametrize(("arguments", "written"), [("{}", "{}"), ("", "{}"), ('{"a": 1}', '{"a": 1}')])
def test_text_arguments_are_not_encoded_twice(arguments: str, written: str):
    turns = with_call()
    turns[1]["tool_calls"] = [call(arguments)]
    assert f'"arguments": {written}}}\n</tool_call>' in rendered(CHATML, turns)


def test_text_arguments_that_are_not_a_map_are_refused_if_they_would_be_encoded_twice():
    turns = with_call()
    turns[1]["tool_calls"] = [call("[1, 2]")]
    with pytest.raises(InputError, match=r'message 2: .*"\[1, 2\]"'):
        rendered(CHATML, turns)
    assert "CALL" not in rendered(REASONING, turns) and "drill [1, 2]</tool_call>" in rendered(REASONING, turns)


@pytest.mark.parametrize("condition", ["messages[-1].role != 'assistant'", "true"])
def test_the_header_of_a_second_answer_in_a_row_is_not_trained_on(condition: str):
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt and " + condition + " %}<assistant>{% endif %}"
    )
    turns = [USER, assistant("paw"), assistant("tail"), USER, assistant("herd", weight=0), assistant("nest")]
    assert learned_of(template, turns)[0] == ["paw</s>", "tail</s>", "nest</s>"]
