"""What is wrong with rows: all of it is told at once, by file and line, before a tokenizer sees any of them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from more_models import write_vit
from prelort_worker.errors import InputError, RowFaults
from specs import IID
from test_problems import problems_of, run

TASK = "sequence-classification"


def write(path: Path, *rows: str | dict[str, Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(text: object = "fur", topic: object = "animal", **columns: object) -> dict[str, object]:
    return {"text": text, "topic": topic, **columns}


GOOD = [row("fur", "animal"), row("bread", "food")] * 20


def told(tiny: Path, tmp_path: Path, *rows: str | dict[str, Any], **data: Any) -> list[tuple[str | None, str]]:
    """What is told of the rows, which stand before good ones, without the path."""
    path = write(tmp_path / "a.jsonl", *rows, *GOOD)
    problems = problems_of(tiny, tmp_path, TASK, path=path, **data)
    return [(option, message.replace(f"{tmp_path}/", "")) for option, message in problems]


def test_row_faults_name_ten_rows_of_a_key_and_count_the_rest():
    faults = RowFaults()
    for index in range(1, 13):
        with faults.of(f"a.csv:{index}", "data.text"):
            raise InputError(f"a.csv:{index}: is empty")
    faults.add("a.csv:13", "is long", "data.text")
    faults.add("a.csv:2", "is long", "data.label")
    with pytest.raises(InputError) as refused:
        faults.raise_any()
    rows = ", ".join(f"a.csv:{index}" for index in range(1, 11))
    assert refused.value.problems == [
        ("data.text", f"{rows} and 2 more rows: is empty"),
        ("data.label", "a.csv:2: is long"),
        ("data.text", "1 more row with other faults"),
    ]
    assert faults.count == 14


def test_the_first_faulty_row_of_a_file_is_named_first(tiny: Path, tmp_path: Path):
    rows = [row("" if index % 3 == 0 else "fur", "animal" if index % 2 else "food") for index in range(60)]
    path = write(tmp_path / "a.jsonl", *rows)
    named = ", ".join(f"{path}:{index}" for index in range(1, 30, 3))
    ((option, message),) = problems_of(tiny, tmp_path, TASK, path=path)
    assert option == "data.text" and message.startswith(f"{named} and 10 more rows: ")


def test_a_fault_that_every_row_has_is_reported_for_the_first():
    faults = RowFaults()
    for index in range(1, 4):
        faults.add(f"a.csv:{index}", "has no column 'b'")
    with pytest.raises(InputError, match=r"^a\.csv:1 and every other row: has no column 'b'$"):
        faults.raise_any(3)


def test_faults_of_every_kind_are_reported_together(tiny: Path, tmp_path: Path):
    rows = [row(""), '{"text": "fur"', row(topic=""), row("paw\ud83d"), {"text": "fur"}, row(""), row(office="")]
    held_out = write(tmp_path / "b.jsonl", row("fur", "animal"), row("rock", "stone"), row("\0", "food"))
    by_office = replace(IID, name="value", by="topic")
    problems = told(tiny, tmp_path, *rows, eval_path=held_out, partition=by_office)
    assert [option for option, _ in problems] == [
        "data.path",
        "data.label",
        "data.partition.by",
        "data.text",
        "data.label",
        "data.partition.by",
        "data.text",
        "data.text",
    ]
    for index, facts in {
        0: r"a\.jsonl:2: .*\bJSON\b",
        1: r"a\.jsonl:3: column 'topic' \(data\.label\) .*\bempty\b",
        3: r"a\.jsonl:4: column 'text' \(data\.text\) .*U\+D83D",
        4: r"a\.jsonl:5: .*'topic'.*\bdata\.label\b",
        6: r"b\.jsonl:3: column 'text' \(data\.text\) .*U\+0000",
        7: r"a\.jsonl:1, a\.jsonl:6: .*\btoken\b",
    }.items():
        assert re.match(facts, problems[index][1])


@pytest.mark.parametrize(
    ("value", "called"),
    [("", "empty"), (" \t", "blank"), (None, "null"), (float("nan"), "NaN"), ("nan", '"nan"'), ("NaN ", '"NaN"')],
)
def test_a_missing_label_is_not_a_class(tiny: Path, tmp_path: Path, value: object, called: str):
    problems = told(tiny, tmp_path, row(topic=value), row(), row(topic=value))
    ((option, message),) = problems
    assert option == "data.label"
    assert message.startswith(f"a.jsonl:1, a.jsonl:3: column 'topic' (data.label) is {called}, ")


def test_nothing_else_is_reported_of_a_file_that_cannot_be_decoded(tiny: Path, tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,topic\nfur,café\n".encode("latin-1"))
    problems = problems_of(tiny, tmp_path, TASK, path=str(path))
    assert [option for option, _ in problems] == ["data.path"]


@pytest.mark.parametrize("value", ["", None, float("nan")])
def test_a_missing_value_is_not_a_client(tiny: Path, tmp_path: Path, value: object):
    rows = [{**each, "office": office} for each, office in zip(GOOD, ["north", "south"] * 20, strict=True)]
    path = write(tmp_path / "a.jsonl", row(office=value), *rows)
    ((option, message),) = problems_of(
        tiny, tmp_path, TASK, path=path, clients=2, partition=replace(IID, name="value", by="office")
    )
    assert option == "data.partition.by" and message.startswith(f"{path}:1: column 'office' (data.partition.by) is ")


def test_nan_is_not_text(tiny: Path, tmp_path: Path):
    ((option, message),) = told(tiny, tmp_path, row(float("nan")), row(float("nan")))
    assert option == "data.text"
    assert message.startswith("a.jsonl:1, a.jsonl:2: column 'text' (data.text) is NaN")


def test_a_missing_label_in_a_pandas_table_is_refused(tiny: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    texts = ["fur", "bread"] * 20
    for labels in ([None, 1.0] * 20, [float("nan"), 1.0] * 20, [None, "food"] * 20):
        path = str(tmp_path / "a.parquet")
        datasets.Dataset.from_dict({"text": texts, "topic": labels}).to_parquet(path)
        ((option, message),) = problems_of(tiny, tmp_path, TASK, path=path)
        assert option == "data.label"
        assert message.startswith(f"{path}:0, {path}:2, ") and " and 10 more rows: column 'topic'" in message


def test_parquet_text_that_is_not_utf_8_is_refused_with_its_row(tiny: Path, tmp_path: Path):
    pytest.importorskip("datasets")
    import pyarrow as pa
    from pyarrow import parquet

    texts = pa.array([b"fur", b"caf\xe9"] * 20, pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": texts, "topic": ["animal", "food"] * 20}), tmp_path / "a.parquet")
    ((option, message),) = problems_of(tiny, tmp_path, TASK, path=str(tmp_path / "a.parquet"))
    assert option == "data.text"
    assert message.startswith(f"{tmp_path}/a.parquet:1, {tmp_path}/a.parquet:3, ")
    assert re.search(r" and 10 more rows: column 'text' \(data\.text\) .*\b0xe9\b.*\bcharacter 4\b", message)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fur\ud83d", "U+D83D, at character 4"),
        ("\udc00fur", "U+DC00, at character 1"),
        ("fur\npa\0w", "U+0000, at character 3 of its line 2"),
        ("fur\x1b[31m", "U+001B, at character 4"),
        ("fur\x7f", "U+007F, at character 4"),
        (
            "fur\x92s",
            "U+0092, at character 4; it was '\u2019'",
        ),
    ],
)
def test_an_illegal_character_is_refused_with_its_location(tiny: Path, tmp_path: Path, text: str, found: str):
    ((option, message),) = told(tiny, tmp_path, row(), row(text))
    assert option == "data.text"
    assert message.startswith("a.jsonl:2: column 'text' (data.text) ") and found in message
    ((option, message),) = told(tiny, tmp_path, row(topic=text))
    assert option == "data.label"
    assert message.startswith("a.jsonl:1: column 'topic' (data.label) ") and found in message


def test_tabs_and_line_breaks_are_legal(tiny: Path, tmp_path: Path):
    path = write(tmp_path / "a.jsonl", row("fur\tpaw\r\n😀 é"), *GOOD)
    assert run(tiny, tmp_path, TASK, path=path).labels == ["animal", "food"]


def test_all_of_a_conversation_is_checked_for_illegal_characters(tiny: Path, tmp_path: Path):
    chat = [{"role": "user", "content": "fur"}, {"role": "assistant", "content": [{"type": "text", "text": "\ud83d"}]}]
    path = write(tmp_path / "a.jsonl", *[{"turns": chat}] * 2)
    problems = problems_of(
        tiny, tmp_path, path=path, prompt=None, answer=None, messages="turns", clients=1, eval_examples=0
    )
    assert any(
        option == "data.messages" and "column 'turns' (data.messages)[1].content[0].text " in message
        for option, message in problems
    )


@pytest.mark.parametrize(
    ("topics", "remark"),
    [
        (["food", "Food", "food "], '"Food" (1), "food " (1), "food" (1) '),
        ([1, "1"], '"1" (1), 1 (1) '),
        (
            [1, 1.0, "01"],
            '"01" (1), 1 (1), 1.0 (1) ',
        ),
        (["Nan", "NA"], '"Nan" (1), "NA" (1) '),
    ],
)
def test_labels_that_differ_only_in_spelling_cause_a_remark(
    tiny: Path, tmp_path: Path, topics: list[object], remark: str
):
    path = write(tmp_path / "a.jsonl", *(row(topic=topic) for topic in topics), row("wool", "animal"), row("rye", "a"))
    prepared = run(tiny, tmp_path, TASK, path=path, clients=1, eval_examples=0)
    (found,) = prepared.remarks
    assert found.startswith(f"data.label: {remark}")


def test_a_blank_answer_causes_a_remark(tiny: Path, tmp_path: Path):
    path = write(tmp_path / "a.jsonl", *[{"word": "w01", "gloss": gloss} for gloss in ["fur", "", "paw", " "]])
    prepared = run(tiny, tmp_path, path=path, clients=1, eval_examples=0)
    (remark,) = prepared.remarks
    assert remark.startswith(f"{path}:2, {path}:4: data.answer ")


def test_a_sample_of_the_held_out_file_causes_a_remark(tiny: Path, tmp_path: Path):
    held_out = write(tmp_path / "test.jsonl", *GOOD)
    taken = run(tiny, tmp_path, TASK, eval_path=held_out, eval_examples=6)
    (remark,) = taken.remarks
    assert re.search(r"\b6 of 40 examples\b.*\btest\.jsonl\b.*\bdata\.eval_examples\b", remark)
    assert run(tiny, tmp_path, TASK, eval_path=held_out, eval_examples=40).remarks == []


def test_a_missing_file_does_not_hide_problems_of_the_other(tiny: Path, tmp_path: Path):
    gone = str(tmp_path / "gone.jsonl")
    problems = told(tiny, tmp_path, row(topic=None), eval_path=gone)
    assert [option for option, _ in problems] == ["data.label", "data.eval_path"]
    assert problems[0][1].startswith("a.jsonl:1: column 'topic' (data.label) is null")
    assert problems[1][1].startswith("gone.jsonl: ")


def test_an_unreadable_line_does_not_hide_problems_of_pictures(tmp_path: Path):
    model = write_vit(tmp_path / "vit")
    path = write(tmp_path / "a.jsonl", "{", {"picture": "a.png", "class": None}, {"picture": "a.png", "class": "x"})
    data = {"path": path, "label": "class", "text": None, "image": "picture", "clients": 2, "eval_examples": 1}
    problems = problems_of(tmp_path, tmp_path, "image-classification", model={"name_or_path": str(model)}, **data)
    assert [option for option, _ in problems][:2] == ["data.path", "data.label"]


def test_remarks_on_labels_are_short_however_long_or_many_the_labels_are(tiny: Path, tmp_path: Path):
    rows = [row(topic=value) for value in ("a" * 5000, "A" * 5000, *(f"{'0' * n}7" for n in range(30)))]
    remarks = run(tiny, tmp_path, TASK, path=write(tmp_path / "a.jsonl", *rows, *GOOD)).remarks
    alike = [remark for remark in remarks if "differ only in" in remark]
    assert len(alike) == 2
    assert f'"{"A" * 59}… (1), "{"a" * 59}… (1) ' in alike[0]
    assert "and 20 more " in alike[1]
    assert max(map(len, alike)) < 2000
