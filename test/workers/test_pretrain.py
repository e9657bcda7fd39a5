"""A small language model from a few lines of text: what comes out, and that it comes out the same."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from controller import worker_environment
from prelort_worker.errors import InputError
from prelort_worker.files.file_hashes import file_sha256
from prelort_worker.pretrain import Settings, pack, pretrain, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = Settings(
    vocabulary=300,
    hidden=24,
    layers=2,
    heads=2,
    positions=16,
    tokens=10_000,
    batch_size=4,
    lr=2e-2,
    held_out_every=10,
    threads=1,
)
SENTENCES = ["the cat sees the dog", "a dog sees the cat", "the cat hears a dog", "a cat sees a dog"] * 30


@pytest.fixture(autouse=True)
def settings_of_torch():
    """Training sets them for its process, which the other tests share."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    return path


def load(folder: Path) -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    model, info = loaded
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_transformers_loads_the_model_which_has_learned_its_text(architecture, text, tmp_path):
    said = []
    pretrain(architecture, [text], tmp_path / "made", TINY, said.append)
    record = json.loads((tmp_path / "made/prelort.json").read_text())
    model, tokenizer = load(tmp_path / "made"), AutoTokenizer.from_pretrained(tmp_path / "made")
    assert model.config.model_type == architecture
    assert model.config.vocab_size == len(tokenizer) <= TINY.vocabulary
    assert model.config.max_position_embeddings == 16
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (
        tokenizer.pad_token_id,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
    )
    assert record["parameters"] == model.num_parameters()
    assert record["sha256"]["model.safetensors"] == file_sha256(tmp_path / "made/model.safetensors")
    assert record["text_sha256"] == [file_sha256(text)]
    # There are few ways to go on with these sentences, and hundreds of tokens.
    assert record["held_out_perplexity"] < 10
    assert re.fullmatch(r"step 150 of 156: loss \d\.\d{3}, \d+ s left", said[-2])
    assert said[-1] == f"perplexity on held-out text: {record['held_out_perplexity']:.2f}"
    tokens = tokenizer("the cat sees", return_tensors="pt")
    with torch.no_grad():
        best = model(**tokens).logits[0, -1].argmax()
    assert tokenizer.decode(best) in (" the", " a")


def test_the_same_text_gives_the_same_bytes_in_every_process(text, tmp_path):
    script = (
        "import sys; from pathlib import Path; from prelort_worker.pretrain import Settings, pretrain\n"
        f"pretrain('llama', [Path(sys.argv[1])], Path(sys.argv[2]), {TINY!r}, lambda line: None)"
    )
    pretrain("llama", [text], tmp_path / "one", TINY, lambda _line: None)
    subprocess.run(
        [sys.executable, "-c", script, str(text), str(tmp_path / "two")], check=True, env=worker_environment()
    )
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"config.json", "model.safetensors", "prelort.json", "tokenizer.json"} <= set(names)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_any_text_is_decoded_from_its_tokens_which_begin_with_bos():
    tokenizer = train_tokenizer(SENTENCES, TINY)
    ids = tokenizer("the übercat\tsees 犬")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == "the übercat\tsees 犬"
    # An answer is tokenised by itself, after a space.
    assert tokenizer(" dog", add_special_tokens=False)["input_ids"] == tokenizer("the dog")["input_ids"][-1:]


def test_lines_are_concatenated_and_windows_overlap_by_one_token():
    tokenizer = train_tokenizer(SENTENCES, TINY)
    lines = ["the cat", "a dog", "the dog"]
    the, cat, a, dog = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("the", " cat", "a", " dog"))
    assert [len(word) for word in (the, cat, a, dog)] == [1, 1, 1, 1]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    windows = pack(lines, tokenizer, 5)
    assert windows.tolist() == [
        [bos, *the, *cat, eos, bos, *a],
        [*a, *dog, eos, bos, *the, *dog],
    ]


def test_an_existing_folder_and_a_short_text_are_refused_and_leave_nothing(text, tmp_path):
    with pytest.raises(InputError, match=r"--out .*: "):
        pretrain("llama", [text], tmp_path, TINY, lambda _line: None)
    with pytest.raises(InputError, match="the text is too short"):
        pretrain("llama", [text], tmp_path / "made", replace(TINY, positions=4096), lambda _line: None)
    assert list(tmp_path.iterdir()) == [text]
