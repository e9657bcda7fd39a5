"""Rows of whatever the user's data lies in."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prelort_worker.errors import InputError
from prelort_worker.rows.read import read_rows, rows_sha256
from prelort_worker.rows.row import Row
from prelort_worker.rows.templates import column_text, fill

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf")))


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def columns_of(path: str | Path, *options: str | None) -> list[dict[str, Any]]:
    return [row.columns for row in read_rows(str(path), *options)]


def places_of(path: str | Path, *options: str | None) -> list[str]:
    return [row.where.removeprefix(str(path)) for row in read_rows(str(path), *options)]


def write_parquet(path: Path, **columns: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns).to_parquet(str(path))
    return str(path)


def png(path: Path, colour: str = "red") -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), colour).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"a": "1", "b": "x,\\ny"}\n\n{"a": "2", "b": "é"}'),
        ("a.ndjson", '\ufeff{"a": "1", "b": "x,\\ny"}\r\n{"a": "2", "b": "é"}\r\n'),
        ("a.json", '[{"a": "1", "b": "x,\\ny"},\n {"a": "2", "b": "é"}]'),
        ("a.csv", 'a,b\n1,"x,\ny"\n2,é\n'),
        ("a.CSV", '\ufeffa,b\r\n1,"x,\ny"\r\n\r\n2,é'),
        ("a.tsv", 'a\tb\n1\t"x,\ny"\n2\té\n'),
    ],
)
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, name: str, content: str):
    path = write(tmp_path / name, content)
    assert columns_of(path) == [{"a": "1", "b": "x,\ny"}, {"a": "2", "b": "é"}]


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}', [":1", ":3"]),
        ("a.csv", 'a\n1\n"x\ny"\n\n3', [":2", ":3", ":6"]),
        ("a.json", '[{"a": 1}, {"a": 2}]', ["[0]", "[1]"]),
    ],
)
def test_a_row_knows_its_first_line(tmp_path: Path, name: str, content: str, places: list[str]):
    assert places_of(write(tmp_path / name, content)) == places


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "", r"a\.jsonl: .*\bno examples\b"),
        ("a.json", " ", r"a\.json: .*\bno examples\b"),
        ("a.json", "[]", r"a\.json: .*\bno examples\b"),
        ("a.csv", "a,b\n", r"a\.csv: .*\bno examples\b"),
        ("a.csv", "", r"a\.csv: .*\bno examples\b"),
        ("a.jsonl", '{"a": 1}\n[1]', r"a\.jsonl:2: .*\[1\]$"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl:1: .*\bJSON\b"),
        ("a.json", '{"a": 1}\n{"a": 2}', r"a\.json:2: .*\bJSON\b.*\.jsonl\b"),
        ("a.json", '[{"a": 1},\n {a}]', r"a\.json:2: .*\bJSON\b"),
        ("a.json", '{"version": 1, "data": []}', r"a\.json: .*\blist\b.*'version', 'data'"),
        ("a.json", '[{"a": 1}, 2]', r"a\.json\[1\]: .*\b2$"),
        ("a.csv", 'a,b\n"1\n2",3\n4\n', r"a\.csv:4: .*\b2 fields\b.*\(a, b\).*\b1\b"),
        ("a.csv", "a,b\n1,2,3\n", r"a\.csv:2: .*\b2 fields\b.*\(a, b\).*\b3\b"),
        ("a.csv", '\na,b,a\n"1",2,3\n', r"a\.csv:2: .*'a'"),
        ("a.csv", ",b\n0,1\n", r"a\.csv:1: column 1 .* to_csv\(index=False\)"),
        ("a.csv", "a,,b\n0,1,2\n", r"a\.csv:1: column 2 [^;]*$"),
        ("a.csv", 'a\n1\n"open\n\n', r"a\.csv:3: .*\bquote\b"),
        (
            "a.csv",
            b"a\ncaf\xe9\n1\nna\xefve\n",
            r"a\.csv:2, .*a\.csv:4: is not UTF-8: byte 0xe9 \(in Windows-1252, in which Excel .*'é'\); save",
        ),
        ("a.csv", b"\xff\xfea\x00\n", r"a\.csv: .*\bbyte order mark of UTF-16\b"),
        ("a.csv", "a,b\n1,2,,3\n", r"a\.csv:2: .*\b2 fields\b.*\(a, b\).*\b4\b"),
        (
            "a.csv",
            "a,b;c\n1,2,3\n",
            r"a\.csv:2: .*\b2 fields\b.*\bsep=;",
        ),
        (
            "a.jsonl",
            '{a}\n{"a": 1}\n[]\n{a}',
            r"a\.jsonl:1, .*a\.jsonl:4: .*\bJSON\b.*a\.jsonl:3: ",
        ),
        ("a.txt", b"\xef\xbb\xbffine\nbad \xff", r"a\.txt:2: is not UTF-8: byte 0xff"),
        ("a.parquet", b"PAR1 not", r"a\.parquet: is not a Parquet file: "),
        ("a.xlsx", b"PK", r"a\.xlsx: .*\.jsonl, .*\bfolder\b"),
        ("data", b"{}", r"data: .*\.jsonl, "),
    ],
)
def test_a_file_that_cannot_be_read_is_reported_with_the_line(
    tmp_path: Path, name: str, content: str | bytes, reason: str
):
    with pytest.raises(InputError, match=reason):
        read_rows(write(tmp_path / name, content))


def test_a_field_may_be_longer_than_the_csv_modules_default_limit(tmp_path: Path):
    assert columns_of(write(tmp_path / "a.csv", f"a\n{'x' * 200_000}\n")) == [{"a": "x" * 200_000}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text;topic\nx, y;food\n"),
        ("a.csv", "text\ttopic\nx, y\tfood\n"),
        ("a.tsv", "text;topic\nx, y;food\n"),
        ("a.csv", 'sep=,\r\ntext,topic\r\n"x, y",food\r\n'),
        ("a.csv", "\ufeffsep=|\ntext|topic\nx, y|food\n"),
        ("a.csv", '"sep=;"\ntext;topic\nx, y;food\n'),
        ("a.csv", "sep=\t\ntext\ttopic\nx, y\tfood\n"),
        ("a.csv", 'text,topic,\n"x, y",food,\n'),
        ("a.csv", 'text,topic,,\n"x, y",food\n'),
        ("a.csv", 'text,topic\n"x, y",food,,\n'),
        ("a.csv", "text;topic;\nx, y;food;\n;;\n;;\n"),
        ("a.csv", ' text , topic\n"x, y", food\n'),
        ("a.csv", "text;topic\nx, y;food\n".encode("utf-16")),
        ("a.tsv", "text\ttopic\nx, y\tfood\n".encode("utf-32")),
        ("a.jsonl", '{"text": "x, y", "topic": "food"}\n'.encode("utf-16")),
    ],
)
def test_tables_saved_by_spreadsheets_are_read_as_meant(tmp_path: Path, name: str, content: str | bytes):
    assert columns_of(write(tmp_path / name, content)) == [{"text": "x, y", "topic": "food"}]


def test_the_lines_of_a_table_are_counted_from_the_first_of_the_file(tmp_path: Path):
    path = write(tmp_path / "a.csv", 'sep=;\na;b\n"1\n2";3\n;\n4;5\n;\n')
    assert places_of(path) == [":3", ":5", ":6"]
    assert columns_of(path)[1] == {"a": "", "b": ""}, "a row of nothing is left out at the end alone"


def test_unreadable_rows_of_all_files_are_reported_together(tmp_path: Path):
    write(tmp_path / "a.jsonl", '{"a": 1}\n' + "{a}\n" * 12)
    write(tmp_path / "b.jsonl", "[1]\n")
    write(tmp_path / "c.jsonl", b"\xff")
    with pytest.raises(InputError) as refused:
        read_rows(str(tmp_path))
    message, rest = (told for _, told in refused.value.problems)
    assert message.startswith(f"{tmp_path}/a.jsonl:2, {tmp_path}/a.jsonl:3, ")
    assert f"{tmp_path}/a.jsonl:11 and 2 more rows: " in message
    assert rest == "2 more rows with other faults"


@pytest.mark.parametrize("name", [b"a\xff.txt", b"a\n.txt", b"a\x1b.txt"])
def test_a_file_name_that_is_not_valid_text_is_refused(tmp_path: Path, name: bytes):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("fur")
    for read in (read_rows, rows_sha256):
        with pytest.raises(InputError, match=r"'a\\[xnu][^']*\.txt': .*\bUTF-8\b"):
            read(str(tmp_path))


@pytest.mark.parametrize("option", ["split", "subset"])
def test_a_single_file_has_neither_splits_nor_subsets(tmp_path: Path, option: str):
    path = write(tmp_path / "a.txt", "text")
    with pytest.raises(InputError, match=r"a\.txt\b.*'train'") as caught:
        read_rows(path, **{option: "train"})
    assert [at for at, _ in caught.value.problems] == [f"data.{option}"]


def test_a_folder_of_tables_is_read_in_name_order_with_a_file_column(tmp_path: Path):
    write(tmp_path / "b.csv", "a\n3\n")
    write(tmp_path / "a" / "deep.csv", "a\n1\n2\n")
    for about in ("README.md", "LICENSE", ".hidden.txt", ".git/x"):
        write(tmp_path / about, "about")
    assert columns_of(tmp_path) == [{"file": "a/deep", "a": "1"}, {"file": "a/deep", "a": "2"}, {"file": "b", "a": "3"}]
    assert places_of(tmp_path) == ["/a/deep.csv:2", "/a/deep.csv:3", "/b.csv:2"]


def test_an_existing_column_called_file_is_kept(tmp_path: Path):
    write(tmp_path / "a.jsonl", '{"file": "own"}\n{"b": 1}')
    assert columns_of(tmp_path) == [{"file": "own"}, {"file": "a", "b": 1}]


def test_texts_and_images_are_rows_with_file_and_folder(tmp_path: Path):
    write(tmp_path / "texts" / "top.txt", "zero")
    write(tmp_path / "texts" / "x" / "one.md", "first\nline")
    assert columns_of(tmp_path / "texts") == [
        {"file": "top", "folder": "", "text": "zero"},
        {"file": "x/one", "folder": "x", "text": "first\nline"},
    ]
    for name in ("cat/1.png", "dog/a/2.jpg"):
        png(tmp_path / "images" / name)
    (tmp_path / "images" / "dog" / "3.webp").write_bytes(b"not looked at yet")
    root = tmp_path / "images"
    assert columns_of(root) == [
        {"file": "cat/1", "folder": "cat", "image": str(root / "cat" / "1.png")},
        {"file": "dog/3", "folder": "dog", "image": str(root / "dog" / "3.webp")},
        {"file": "dog/a/2", "folder": "dog/a", "image": str(root / "dog" / "a" / "2.jpg")},
    ]


def test_a_folder_holds_one_kind_of_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"\bno files\b.*\.jsonl\b"):
        read_rows(str(tmp_path))
    write(tmp_path / "b.csv", "a\n1\n")
    write(tmp_path / "a.jsonl", "{}")
    with pytest.raises(InputError, match=r"\bjsonl: 1, .*\ba\.jsonl; csv: 1, .*\bb\.csv"):
        read_rows(str(tmp_path))
    (tmp_path / "a.jsonl").rename(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"\.xlsx .*: 1, .*\ba\.xlsx; csv: 1"):
        read_rows(str(tmp_path))


@pytest.mark.parametrize("names", [("train-00.csv", "test-00.csv"), ("train/x.csv", "test/x.csv")])
def test_splits_named_by_files_are_not_mixed(tmp_path: Path, names: tuple[str, str]):
    for value, name in enumerate(names):
        write(tmp_path / name, f"a\n{value}\n")
    with pytest.raises(InputError, match=r"\btest: 1, .*\btest.*train: 1"):
        read_rows(str(tmp_path))
    assert [row["a"] for row in columns_of(tmp_path, "train")] == ["0"]
    assert [row["a"] for row in columns_of(tmp_path, "test")] == ["1"]
    with pytest.raises(InputError, match=r"'dev'.*: test, train$"):
        read_rows(str(tmp_path), "dev")
    assert rows_sha256(str(tmp_path), "train") != rows_sha256(str(tmp_path), "test")


def test_the_folder_of_a_split_is_not_a_class(tmp_path: Path):
    for name in ("train/cat/1.png", "test/dog/2.png"):
        png(tmp_path / name)
    assert [(row["file"], row["folder"]) for row in columns_of(tmp_path, "train")] == [("cat/1", "cat")]


def test_a_name_that_only_starts_like_a_split_is_not_one(tmp_path: Path):
    for name in ("trainers.csv", "testimony.csv"):
        write(tmp_path / name, "a\n1\n")
    assert len(read_rows(str(tmp_path))) == 2


def test_parquet_rows_are_read_on_demand(tmp_path: Path):
    one = write_parquet(tmp_path / "one" / "b.parquet", a=[1, 2, 3], t=[{"en": "x"}, {"en": "y"}, None])
    rows = read_rows(one)
    assert [row.columns for row in rows] == [
        {"a": 1, "t": {"en": "x"}},
        {"a": 2, "t": {"en": "y"}},
        {"a": 3, "t": None},
    ]
    assert rows[2] == list(rows)[2] == rows[-1] and rows[1:] == list(rows)[1:]
    assert rows[2].where == f"{one}:2"
    with pytest.raises(IndexError):
        rows[3]
    write_parquet(tmp_path / "one" / "a.parquet", a=[9], t=[{"en": "z"}])
    assert [(row.where, row.columns["file"], row.columns["a"]) for row in read_rows(str(tmp_path / "one"))] == [
        (f"{tmp_path}/one/a.parquet:0", "a", 9),
        (f"{tmp_path}/one/b.parquet:0", "b", 1),
        (f"{tmp_path}/one/b.parquet:1", "b", 2),
        (f"{tmp_path}/one/b.parquet:2", "b", 3),
    ]


def test_parquet_files_with_other_columns_or_without_rows_are_refused(tmp_path: Path):
    write_parquet(tmp_path / "a.parquet", a=[1])
    write_parquet(tmp_path / "b.parquet", other=["x"])
    with pytest.raises(InputError, match=r"a\.parquet and 1 more: .*\bParquet\b.*\bother\b"):
        read_rows(str(tmp_path))
    empty = tmp_path / "empty.parquet"
    datasets.Dataset.from_dict({"a": []}).to_parquet(str(empty))
    with pytest.raises(InputError, match=r"empty\.parquet: .*\bno examples\b"):
        read_rows(str(empty))
    with pytest.raises(InputError, match=r"\[1\]\.parquet: .*\*, \?, \[ and \]"):
        read_rows(write_parquet(tmp_path / "x[1].parquet", a=[1]))


def labelled(n: int = 3):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
        | {"tags": datasets.List(datasets.ClassLabel(names=["O", "B"]))}
    )
    rows = {"text": [f"t{index}" for index in range(n)], "label": [index % 2 for index in range(n)]}
    return datasets.Dataset.from_dict({**rows, "tags": [[0, 1]] * n}, features=features)


def test_a_saved_dataset_gives_class_labels_by_name(tmp_path: Path):
    labelled().save_to_disk(str(tmp_path / "saved"))
    rows = read_rows(str(tmp_path / "saved"))
    assert [row.columns["label"] for row in rows] == ["neg", "pos", "neg"]
    assert rows[1] == Row(f"{tmp_path}/saved:1", {"text": "t1", "label": "pos", "tags": ["O", "B"]})
    with pytest.raises(InputError, match=r"\bsaved\b.*'train'"):
        read_rows(str(tmp_path / "saved"), "train")
    with pytest.raises(InputError, match=r"\bsaved\b"):
        read_rows(str(tmp_path / "saved"), None, "mrpc")


def test_a_missing_class_label_is_null(tmp_path: Path):
    features = datasets.Features({"label": datasets.ClassLabel(names=["neg", "pos"])})
    datasets.Dataset.from_dict({"label": [-1, 1, None]}, features=features).save_to_disk(str(tmp_path / "saved"))
    assert columns_of(tmp_path / "saved") == [{"label": None}, {"label": "pos"}, {"label": None}]


def test_the_split_train_of_a_saved_dataset_is_the_default(tmp_path: Path):
    datasets.DatasetDict(train=labelled(3), test=labelled(1)).save_to_disk(str(tmp_path / "saved"))
    assert places_of(tmp_path / "saved") == ["[train]:0", "[train]:1", "[train]:2"]
    assert places_of(tmp_path / "saved", "test") == ["[test]:0"]
    with pytest.raises(InputError, match=r"\bsaved\b.*'dev'.*: train, test$"):
        read_rows(str(tmp_path / "saved"), "dev")
    (tmp_path / "saved" / "train" / "state.json").unlink()
    with pytest.raises(InputError, match=r"saved: .*\bsaved dataset\b"):
        read_rows(str(tmp_path / "saved"))


CARD = """---
configs:
- config_name: fruit
  data_files: [{split: train, path: fruit/*.csv}]
- config_name: trees
  data_files: [{split: train, path: trees/a.csv}, {split: test, path: trees/b.csv}]
---
"""


def test_a_folder_with_a_card_is_read_as_the_card_says(tmp_path: Path):
    write(tmp_path / "README.md", CARD)
    write(tmp_path / "fruit" / "a.csv", "a\napple\n")
    write(tmp_path / "trees" / "a.csv", "a\nash\n")
    write(tmp_path / "trees" / "b.csv", "a\nbirch\n")
    assert columns_of(tmp_path, None, "fruit") == [{"a": "apple"}]
    assert columns_of(tmp_path, "test", "trees") == [{"a": "birch"}]
    assert read_rows(str(tmp_path), None, "trees")[0].where == f"{tmp_path}/trees[train]:0"
    with pytest.raises(InputError, match=r"Config name is missing.*'fruit', 'trees'"):
        read_rows(str(tmp_path))
    with pytest.raises(InputError, match=r"nknown split \"dev\"\. Should be one of \['train', 'test'\]"):
        read_rows(str(tmp_path), "dev", "trees")


def test_images_with_metadata_are_joined_as_the_hub_does(tmp_path: Path):
    png(tmp_path / "one.png", "red")
    png(tmp_path / "two.png", "blue")
    write(tmp_path / "metadata.csv", "file_name,caption\none.png,a\ntwo.png,b\n")
    paths = {row.columns["caption"]: row.columns["image"]["path"] for row in read_rows(str(tmp_path))}
    assert {caption: Path(path).name for caption, path in paths.items()} == {"a": "one.png", "b": "two.png"}
    assert all(Path(path).is_file() for path in paths.values())


def test_images_of_a_dataset_stay_bytes_until_they_are_opened(tmp_path: Path):
    features = datasets.Features({"picture": datasets.Image()})
    content = png(tmp_path / "x.png", "lime").read_bytes()
    dataset = datasets.Dataset.from_dict({"picture": [{"bytes": content, "path": None}]}, features=features)
    dataset.to_parquet(str(tmp_path / "x.parquet"))
    [row] = read_rows(str(tmp_path / "x.parquet"))
    assert row.columns["picture"] == {"bytes": content, "path": None}


def test_a_name_is_looked_up_on_the_hub_and_the_hubs_error_reported(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[Any, ...]] = []

    def load(name: str, subset: str | None, split: str):
        asked.append((name, subset, split))
        return labelled()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert places_of("nyu-mll/glue", "validation", "mrpc")[0] == "/mrpc[validation]:0"
    assert places_of("squad")[2] == "[train]:2"
    assert asked == [("nyu-mll/glue", "mrpc", "validation"), ("squad", None, "train")]
    assert rows_sha256("squad") == rows_sha256("squad")


def test_without_a_network_a_name_says_so():
    with pytest.raises(InputError, match=r"owner/name: .*\bHugging Face hub\b"):
        read_rows("owner/name")


@pytest.mark.parametrize("path", ["missing.jsonl", "a/b/c", "./name", "/tmp/not-there", "with space"])
def test_a_path_that_cannot_be_a_hub_name_is_a_missing_file(path: str):
    with pytest.raises(InputError, match=r"no such file"):
        read_rows(path)
    with pytest.raises(InputError, match=r"no such file"):
        rows_sha256(path)


def test_the_script_of_a_dataset_is_never_run(tmp_path: Path):
    folder = tmp_path / "evil"
    write(folder / "evil.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    write(folder / "README.md", "---\nconfigs:\n- config_name: default\n---\n")
    with pytest.raises(InputError, match="dataset"):
        read_rows(str(folder), None, "default")
    assert not (tmp_path / "ran").exists()


def test_without_the_library_the_error_names_the_command_that_installs_it(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", a=[1])
    write(tmp_path / "b.csv", "a\n1\n")
    script = f"""
import sys
sys.modules["datasets"] = None
from prelort_worker.rows.read import read_rows
print(len(read_rows({str(tmp_path / "b.csv")!r})))
try:
    read_rows({path!r})
except ValueError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "1" and "a.parquet: " in second
    assert f"{sys.executable} -m pip install datasets" in second


def test_the_hash_covers_contents_and_names(tmp_path: Path):
    one, two = write(tmp_path / "a" / "x.csv", "a\n1\n"), write(tmp_path / "b" / "y.csv", "a\n1\n")
    assert rows_sha256(one) == rows_sha256(two)
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert rows_sha256(folders[0]) != rows_sha256(folders[1]), "the column file differs"
    (tmp_path / "b" / "y.csv").rename(tmp_path / "b" / "x.csv")
    assert rows_sha256(folders[0]) == rows_sha256(folders[1])
    write(tmp_path / "b" / "x.csv", "a\n2\n")
    assert rows_sha256(folders[0]) != rows_sha256(folders[1])
    text = write(tmp_path / "a.jsonl", "a\n1\n")
    assert rows_sha256(text) != rows_sha256(one), "the same bytes, read as another kind"


def test_the_hash_of_a_saved_dataset_covers_the_split(tmp_path: Path):
    datasets.DatasetDict(train=labelled(3), test=labelled(1)).save_to_disk(str(tmp_path / "saved"))
    saved = str(tmp_path / "saved")
    assert rows_sha256(saved, "train") == rows_sha256(saved, "train") != rows_sha256(saved, "test")


ROW = Row("f:1", {"t": {"en": "hi", "n": [1, 2.5]}, "a.b": "dotted", "Review Text": "fine", "x": None})


@pytest.mark.parametrize(
    ("template", "text"),
    [("{t.en}", "hi"), ("{t.n.1}!", "2.5!"), ("{a.b}", "dotted"), ("{{{Review Text}}}", "{fine}"), ("", "")],
)
def test_a_template_reaches_into_maps_and_lists(template: str, text: str):
    assert fill(template, ROW, "data.text") == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{t}", r"f:1: column 't' \(data\.text\) .*\{\"en\": \"hi\", "),
        ("{t.de}", r"f:1: column 't\.de' \(data\.text\) .*: en, n$"),
        ("{t.n.2}", r"column 't\.n\.2' \(data\.text\) .*\blist of 2\b"),
        (
            "{t.en.x}",
            r"column 't\.en\.x' \(data\.text\) .*\"hi\"",
        ),
        ("{x}", r"column 'x' \(data\.text\) is null"),
        (
            "{review text}",
            r"'review text'.*'Review Text'.*: Rev",
        ),
        ("{zzz}", r"'zzz'.*\bdata\.text\b.*: Review Text, a\.b, t, x"),
        ("a}", r"data\.text: .*: Single '}' "),
        ('{"a": 1}', r"data\.text: .*\{text\}"),
    ],
)
def test_a_template_that_does_not_fit_the_row_says_why(template: str, reason: str):
    with pytest.raises(InputError, match=reason):
        fill(template, ROW, "data.text")


def test_bytes_and_dates_are_refused_with_their_type():
    with pytest.raises(InputError, match=r"column 'b' \(data\.label\) .*\"bytes\""):
        column_text(Row("f:1", {"b": b"raw"}), "b", "data.label")
    assert column_text(Row("f:1", {"b": json.loads("1.0")}), "b", "data.label") == "1.0"


def test_text_in_double_brackets_is_left_out_if_a_column_in_it_is_empty():
    template = "Do: {task}[[\nInput: {input}]]\nAnswer:"
    assert fill(template, Row("f:1", {"task": "sum", "input": "1 2"}), "data.prompt") == "Do: sum\nInput: 1 2\nAnswer:"
    assert fill(template, Row("f:2", {"task": "hail", "input": ""}), "data.prompt") == "Do: hail\nAnswer:"
    with pytest.raises(InputError, match="'input'"):
        fill(template, Row("f:3", {"task": "hail"}), "data.prompt")


def test_only_the_owner_can_read_the_copy_of_a_table_that_datasets_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    path = write_parquet(tmp_path / "a.parquet", text=["private"])
    before = os.umask(0o022)
    try:
        assert read_rows(path)[0].columns == {"text": "private"}
        (tmp_path / "folder").mkdir()
        write_parquet(tmp_path / "folder" / "b.parquet", text=["private too"])
        card = "---\nconfigs:\n- config_name: default\n  data_files: b.parquet\n---\n"
        (tmp_path / "folder" / "README.md").write_text(card)
        assert read_rows(str(tmp_path / "folder"))[0].columns == {"text": "private too"}
        assert os.umask(0o022) == 0o022, "what is written afterwards is as before"
    finally:
        os.umask(before)
    copies = [*(tmp_path / "cache").rglob("*.arrow")]
    assert len(copies) == 2
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o600}


def test_nulls_added_by_arrow_are_removed_from_messages_inside_a_map(tmp_path: Path):
    calls = [[{"function": {"name": name, "arguments": {name: 1}}}] for name in ("a", "b")]
    path = write_parquet(
        tmp_path / "a.parquet", sample=[{"turns": [{"role": "assistant", "calls": each}]} for each in calls]
    )
    assert [row.columns["sample"]["turns"][0]["calls"] for row in read_rows(path)] == calls


def test_a_header_that_starts_like_a_sep_line_is_a_header(tmp_path: Path):
    path = write(tmp_path / "a.csv", "sep=1,text\n2,fur\n")
    assert [row.columns for row in read_rows(path)] == [{"sep=1": "2", "text": "fur"}]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_utf_16_without_a_byte_order_mark_is_recognised(tmp_path: Path, name: str, encoding: str):
    path = write(tmp_path / name, 'text;topic\r\n"Gr\u00fc\u00dfe";food\r\n'.encode(encoding))
    with pytest.raises(InputError, match=r"\bUTF-16\b.*\bUTF-8\b"):
        read_rows(path)
