"""What the user has to mend is told all at once, with the config's key of each, before anything is written."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import CPU, quiet
from prelort_worker.errors import InputError, Problems
from prelort_worker.prepared_dataset import read_dataset
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import LoraSpec
from specs import IID, LORA, SEED, data_spec, model_spec
from told import Told, prepare


def run(
    tiny: Path, cache: Path, task: str = "causal-lm", lora: LoraSpec = LORA, model: Any = None, **data: Any
) -> Told:
    spec = model_spec(tiny, task, **(model or {}))
    return prepare(Prepare("p", 1, SEED, spec, lora, data_spec(tiny, task, **data), str(cache)), CPU, quiet)


def problems_of(tiny: Path, cache: Path, *arguments: Any, **options: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(InputError) as refused:
        run(tiny, cache, *arguments, **options)
    assert not (cache / "prepared").exists(), "nothing is written"
    return refused.value.problems


def options_of(problems: list[tuple[str | None, str]]) -> list[str | None]:
    return [option for option, _ in problems]


def test_problems_with_data_adapter_and_model_are_reported_together(tiny: Path, tmp_path: Path):
    lora = replace(LORA, r=64, tiers=[1, 64], target_modules=["embed_tokens", "q_proj"], modules_to_save=["pooler"])
    problems = problems_of(
        tiny,
        tmp_path,
        lora=lora,
        model={"attention": "careful", "quantization": "4bit"},
        prompt="Define {wort}:",
        answer="{glos}",
        partition=replace(IID, name="dirichlet", by="theme", alpha=1.0),
    )
    told = dict(problems)
    assert len(told) == len(problems) == 8
    assert re.search("'wort'.*'word'", told["data.prompt"])
    assert "'glos'" in told["data.answer"]
    assert "'theme'" in told["data.partition.by"]
    assert re.search("4bit.*CUDA", told["model.quantization"])
    assert 'careful: Specified `attn_implementation="careful"` is not supported' in told["model.attention"]
    assert re.search(r"model\.embed_tokens\b.*\bEmbedding\b", told["lora.target_modules"])
    assert re.search(r"\b32\b.*\bmodel\.layers\.0\.self_attn\.q_proj\b", told["lora.r"])
    assert re.search(r"\bpooler\b.*\bLlamaForCausalLM\b", told["lora.modules_to_save"])


def test_each_alone_is_one_problem(tiny: Path, tmp_path: Path):
    def alone(**changes: Any) -> list[str | None]:
        return options_of(problems_of(tiny, tmp_path, **changes))

    assert alone(prompt="Define {wort}:") == ["data.prompt"]
    assert alone(model={"attention": "careful"}) == ["model.attention"]
    assert alone(model={"attention": "flash_attention_2"}) == ["model.attention"]
    assert alone(lora=replace(LORA, r=64, tiers=[64])) == ["lora.r"]
    assert alone(lora=replace(LORA, target_modules=["no_proj"])) == ["lora.target_modules"]
    assert alone(lora=replace(LORA, target_modules=["lm_head", "embed_tokens"])) == ["lora.target_modules"]
    assert alone(model={"quantization": "8bit"}) == ["model.quantization"]
    assert alone(max_length=128, prompt="{gloss} " * 12) == ["data.max_length"]
    assert alone(path=str(tmp_path / "gone.jsonl")) == ["data.path"]
    assert alone(eval_examples=160) == ["data.eval_examples"]


@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification", "seq2seq-lm"])
def test_a_missing_model_is_reported_together_with_problems_of_the_data(tiny: Path, tmp_path: Path, task: str):
    gone = {"name_or_path": str(tmp_path / "gone")}
    data = {"text": "{txt}"} if task == "sequence-classification" else {"prompt": "{wort}", "answer": "{gloss}"}
    path = str(tiny / ("topics.jsonl" if task == "sequence-classification" else "words.jsonl"))
    base = {} if task == "sequence-classification" else {"label": None, "text": None}
    options = options_of(problems_of(tiny, tmp_path, task, model=gone, path=path, **{**base, **data}))
    wrong = "data.text" if task == "sequence-classification" else "data.prompt"
    assert set(options) == {"model.name_or_path", wrong} and options.count(wrong) == 1


def test_equal_problems_are_reported_once():
    problems = Problems()
    for text in ("one", "other", "one"):
        with problems.gathered("data.text"):
            raise InputError(text)
    with problems.gathered("data.text"):
        raise InputError("elsewhere", "data.label")
    with pytest.raises(InputError, match="one; other; one; elsewhere") as refused:
        problems.raise_any()
    assert refused.value.problems == [("data.text", "one"), ("data.text", "other"), ("data.label", "elsewhere")]


def test_an_error_that_is_not_the_users_is_raised_as_it_is():
    problems = Problems()
    with pytest.raises(KeyError), problems.gathered("data.text"):
        raise KeyError("text")
    assert not problems


def topics(path: Path, *pairs: tuple[str, str]) -> str:
    path.write_text("".join(json.dumps({"text": text, "topic": topic}) + "\n" for text, topic in pairs))
    return str(path)


def test_held_out_examples_come_from_their_own_file(tiny: Path, tmp_path: Path):
    own = topics(tmp_path / "held-out.jsonl", *[("fur", "animal"), ("bread", "food"), ("steel", "tool")] * 5)
    task = "sequence-classification"
    whole = run(tiny, tmp_path, task, eval_path=own, eval_examples=100)
    assert whole.n_eval == 15 and sum(client.n for client in whole.clients) == 160
    drawn = run(tiny, tmp_path, task, eval_path=own, eval_examples=6)
    assert drawn.n_eval == 6 and sum(client.n for client in drawn.clients) == 160
    dataset = read_dataset(Path(drawn.index.path))
    assert all(dataset.length(index) == 1 for index in dataset.held_out) and dataset.length(6) > 1
    assert run(tiny, tmp_path, task, eval_path=own, eval_examples=6).index == drawn.index
    topics(tmp_path / "held-out.jsonl", *[("paw", "animal"), ("bread", "food"), ("steel", "tool")] * 5)
    assert run(tiny, tmp_path, task, eval_path=own, eval_examples=6).index.path != drawn.index.path


def test_held_out_examples_come_from_their_own_split_of_a_folder(tiny: Path, tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    topics(folder / "train.jsonl", *[("fur paw", "animal"), ("sweet dish", "food")] * 10)
    topics(folder / "test.jsonl", *[("fur", "animal"), ("bread", "food")] * 3)
    prepared = run(
        tiny,
        tmp_path,
        "sequence-classification",
        path=str(folder),
        split="train",
        eval_split="test",
        eval_examples=100,
        clients=2,
    )
    assert prepared.n_eval == 6 and [client.n for client in prepared.clients] == [10, 10]


def test_held_out_labels_that_the_model_does_not_have_are_refused(tiny: Path, tmp_path: Path):
    own = topics(tmp_path / "held-out.jsonl", ("fur", "animal"), ("rock", "stone"), ("iron", "stone"), ("oak", "wood"))
    ((option, message),) = problems_of(tiny, tmp_path, "sequence-classification", eval_path=own)
    assert option == "data.eval_path"
    for fact in ("stone (2), wood (1)", f"{own}:2, {own}:3, {own}:4", "4: animal, food, tool, weather"):
        assert fact in message


def test_missing_columns_of_the_held_out_file_are_reported_with_its_name(tiny: Path, tmp_path: Path):
    own = tmp_path / "held-out.jsonl"
    own.write_text('{"words": "fur", "topic": "animal"}\n')
    ((option, message),) = problems_of(tiny, tmp_path, "sequence-classification", eval_path=str(own))
    assert option == "data.text" and f"{own}:1: " in message and "'text'" in message


def test_the_first_of_many_labels_are_named_and_the_rest_counted(tiny: Path, tmp_path: Path):
    path = topics(tmp_path / "many.jsonl", *[("fur", f"t{index:02d}") for index in range(26)])
    own = topics(tmp_path / "held-out.jsonl", *[("fur", f"u{index}") for index in range(7)])
    ((_, message),) = problems_of(tiny, tmp_path, "sequence-classification", path=path, eval_path=own, clients=1)
    assert "u0 (1), u1 (1), u2 (1), u3 (1), u4 (1) and 2 more" in message
    assert f"26: {', '.join(f't{index:02d}' for index in range(20))} and 6 more" in message


def test_a_label_that_nobody_trains_on_causes_no_remark(tiny: Path, tmp_path: Path):
    """An evaluation deals out other examples than the run did: who trains tells it, from the counts of the labels."""
    path = topics(tmp_path / "few.jsonl", *[("fur", "animal"), ("bread", "food")] * 10, ("rock", "stone"))
    changes: dict[str, Any] = {"path": path, "clients": 2, "partition": replace(IID, name="value", by="topic")}
    prepared = run(tiny, tmp_path, "sequence-classification", eval_examples=0, **changes)
    assert prepared.labels == ["animal", "food", "stone"] and prepared.remarks == []
    assert [client.label_counts for client in prepared.clients] == [[10, 0, 0], [0, 10, 0]]
