"""Classifiers of sets of labels and of numbers: transformers' problem types."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import CPU, come_up, payload, quiet, random_adapter
from prelort_worker.errors import InputError
from prelort_worker.prepare.without_data import without_data
from prelort_worker.task_runner import Resident, TaskRunner
from prelort_worker.training.batches import collate, mean_loss
from prelort_worker.training.build import build_nested
from prelort_worker.training.evaluate import evaluate_tier
from prelort_worker.training.nested_lora import NestedLora, activate, write
from prelort_worker.wire.frames import Tensor
from prelort_worker.wire.generation_messages import Asked, Generate, Generated, Turn
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import DataSpec, ModelSpec
from specs import FIT, LORA, SEED, data_spec, model_spec
from told import Told, prepare

KINDS = ["multi_label_classification", "regression"]
WORDS = ["kind", "nest", "fur", "paw"]
# The labels of a text follow from its words, and so does its number.
TEXTS = [" ".join(WORDS[(row + place) % 4] for place in range(1 + row % 3)) for row in range(60)]


def labels_of(text: str) -> list[str]:
    return sorted({word for word in text.split() if word != "paw"})


def number_of(text: str) -> float:
    return len(text.split()) - 1.5


def written(folder: Path, kind: str) -> str:
    value = labels_of if kind == KINDS[0] else number_of
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps({"text": text, "held": value(text)}) + "\n" for text in TEXTS))
    return str(path)


def specs(tiny: Path, path: str, kind: str | None, **changes: Any) -> tuple[ModelSpec, DataSpec]:
    model = model_spec(tiny, "sequence-classification", problem_type=kind)
    return model, data_spec(tiny, "sequence-classification", path=path, label="held", **changes)


def prepared(tiny: Path, folder: Path, path: str, kind: str | None, **changes: Any) -> Told:
    model, data = specs(tiny, path, kind, **changes)
    return prepare(Prepare("p", 1, SEED, model, LORA, data, str(folder / "cache")), CPU, quiet)


def csv(folder: Path, cells: Sequence[str]) -> str:
    path = folder / "held.csv"
    path.write_text("text,held\n" + "".join(f"kind nest,{cell}\n" for cell in cells))
    return str(path)


def resident_of(tiny: Path, folder: Path, kind: str) -> Resident:
    model, data = specs(tiny, written(folder, kind), kind)
    up = come_up(model, LORA, data, folder / "cache")
    nested = up.nested
    write(nested, 4, *random_adapter(nested, 4))
    activate(nested, 4)
    return Resident(nested, up.dataset)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradients_are_those_of_transformers(tiny: Path, tmp_path: Path, kind: str):
    resident = resident_of(tiny, tmp_path, kind)
    nested = resident.nested
    batch = collate(nested.task, resident.dataset, range(12), CPU)
    nested.model.eval()

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        trained = [value for value in nested.model.parameters() if value.requires_grad]
        return list(torch.autograd.grad(loss, trained, materialize_grads=True))

    ours, theirs = mean_loss(nested, batch), nested.model(**batch.tensors).loss
    assert config_of(nested).problem_type == kind
    assert theirs.item() > 0.1
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    pairs = list(zip(gradients(ours), gradients(theirs), strict=True))
    assert max(a.abs().max().item() for a, _ in pairs) > 1e-3
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in pairs)


def test_an_example_has_a_one_for_each_of_its_labels(tiny: Path, tmp_path: Path):
    found = prepared(tiny, tmp_path, written(tmp_path, KINDS[0]), KINDS[0])
    assert found.labels == ["fur", "kind", "nest"]
    dataset = resident_of(tiny, tmp_path, KINDS[0]).dataset
    held = sorted(map(tuple, dataset.fields["labels"].tolist()))
    assert held == sorted(tuple(float(name in labels_of(text)) for name in found.labels) for text in TEXTS)
    # Of what clients train on, each label counts by itself.
    trained = dataset.fields["labels"][len(dataset.held_out) :].sum(0).tolist()
    assert [sum(counts) for counts in zip(*(client.label_counts for client in found.clients), strict=True)] == trained
    assert sum(each.n for client in found.clients for each in client.mix) == sum(trained)


def test_a_cell_of_text_holds_labels_between_separators(tiny: Path, tmp_path: Path):
    cells = ["a;b", "b", "  ", " b ; a ;a"] * 10
    found = prepared(tiny, tmp_path, csv(tmp_path, cells), KINDS[0], eval_examples=0, clients=1)
    assert (found.labels, found.clients[0].label_counts) == (["a", "b"], [20, 30])
    cells = [cell.replace(";", "|") for cell in cells]
    found = prepared(tiny, tmp_path, csv(tmp_path, cells), KINDS[0], eval_examples=0, clients=1, label_separator="|")
    assert (found.labels, found.clients[0].label_counts) == (["a", "b"], [20, 30])


def test_numbers_are_learned_as_they_are(tiny: Path, tmp_path: Path):
    cells = ["1", "-2.5", " 3e2 ", ".5"] * 10
    found = prepared(tiny, tmp_path, csv(tmp_path, cells), KINDS[1], eval_examples=0, clients=1)
    assert (found.labels, found.clients[0].label_counts, found.clients[0].mix) == ([], [], [])
    model, data = specs(tiny, str(tmp_path / "held.csv"), KINDS[1], eval_examples=0, clients=1)
    up = come_up(model, LORA, data, tmp_path / "cache")
    assert sorted(set(up.dataset.fields["labels"].tolist())) == [-2.5, 0.5, 1.0, 300.0]


BAD = {
    "multi_label_classification": {
        "\"['a', 'b']\"": "a list written as text; expected labels separated by ';'",
        "a;;b": 'with a label that is ""',
        "a;NaN": 'with a label that is "NaN"',
    },
    "regression": {
        "cheap": '"cheap"; expected a number',
        "": '""; expected a number',
        "nan": '"nan"; expected a number',
        "inf": '"inf"; expected a number',
        "1" * 400: "expected a number",
        "1e39": '"1e39"; expected a number',
        "1_000": '"1_000"; expected a number',
    },
}


@pytest.mark.parametrize(("kind", "cell"), [(kind, cell) for kind, cells in BAD.items() for cell in cells])
def test_what_is_no_label_or_number_is_refused_with_its_line(tiny: Path, tmp_path: Path, kind: str, cell: str):
    good = "1" if kind == KINDS[1] else "a;b"
    path = csv(tmp_path, [good, cell, *[good] * 20])
    with pytest.raises(InputError) as refused:
        prepared(tiny, tmp_path, path, kind, eval_examples=0, clients=1)
    assert "held.csv:3" in str(refused.value)
    assert BAD[kind][cell] in str(refused.value)
    assert refused.value.problems[0][0] == "data.label"


@pytest.mark.parametrize(("cell", "kind"), [("", KINDS[0]), ("a", None)])
def test_too_few_labels_are_refused(tiny: Path, tmp_path: Path, cell: str, kind: str | None):
    path = csv(tmp_path, [cell or '""'] * 20)
    expected = (
        "expected at least one label in .*, got none" if kind else "expected at least two labels in .*, got a alone"
    )
    with pytest.raises(InputError, match=expected):
        prepared(tiny, tmp_path, path, kind, eval_examples=0, clients=1)


def test_one_label_that_some_texts_have_is_enough_for_sets(tiny: Path, tmp_path: Path):
    found = prepared(tiny, tmp_path, csv(tmp_path, ["a", '""'] * 10), KINDS[0], eval_examples=0, clients=1)
    assert (found.labels, found.clients[0].label_counts) == (["a"], [10])


def test_a_whole_number_that_no_float_holds_is_refused(tiny: Path, tmp_path: Path):
    path = tmp_path / "held.jsonl"
    path.write_text("".join(f'{{"text": "kind", "held": {held}}}\n' for held in [1, 10**400, *[2] * 20]))
    with pytest.raises(InputError, match=r"held\.jsonl:2.*expected a number"):
        prepared(tiny, tmp_path, str(path), KINDS[1], eval_examples=0, clients=1)


def test_labels_that_only_the_evaluation_data_has_are_refused(tiny: Path, tmp_path: Path):
    other = tmp_path / "other.csv"
    other.write_text("text,held\nkind,fur\nnest,fur;claw\n")
    with pytest.raises(InputError, match=r"labels that this model does not have: claw \(1\), in .*other\.csv:3"):
        prepared(tiny, tmp_path, written(tmp_path, KINDS[0]), KINDS[0], eval_path=str(other))


@torch.no_grad()
def outputs_of(nested: NestedLora, resident: Resident) -> tuple[torch.Tensor, torch.Tensor]:
    batch = collate(nested.task, resident.dataset, resident.dataset.held_out, CPU)
    given = {name: batch.tensors[name] for name in ("input_ids", "attention_mask")}
    return nested.model(**given).logits, batch.tensors["labels"]


def test_evaluation_counts_labels_of_each_example(tiny: Path, tmp_path: Path):
    resident = resident_of(tiny, tmp_path, KINDS[0])
    nested = resident.nested
    values = evaluate_tier(nested, 4, resident.dataset, resident.dataset.held_out, 7, quiet)
    logits, held = outputs_of(nested, resident)
    predicted = (logits.sigmoid() > 0.5).float()
    columns = {name: each.tolist() for name, each in values.columns.items()}
    assert columns["true_positives"] == (predicted * held).sum(1).tolist()
    assert columns["predicted_positives"] == predicted.sum(1).tolist()
    assert columns["actual_positives"] == held.sum(1).tolist()
    assert sum(columns["true_positives"]) > 0
    assert "predicted" not in columns and "confidence" not in columns
    same = [float(a == b) for a, b in zip(predicted.tolist(), held.tolist(), strict=True)]
    assert values.metrics["subset_accuracy"].tolist() == same
    assert columns["targets"] == [1] * len(held)


def test_evaluation_tells_predicted_and_true_numbers(tiny: Path, tmp_path: Path):
    resident = resident_of(tiny, tmp_path, KINDS[1])
    values = evaluate_tier(resident.nested, 4, resident.dataset, resident.dataset.held_out, 7, quiet)
    logits, numbers = outputs_of(resident.nested, resident)
    assert values.columns["predicted_value"].tolist() == pytest.approx(logits[:, 0].tolist(), abs=1e-6)
    assert values.columns["actual_value"].tolist() == numbers.tolist()
    assert values.columns["loss"].tolist() == pytest.approx((logits[:, 0] - numbers).square().tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_learns_at_every_tier(tiny: Path, tmp_path: Path, kind: str):
    model, data = specs(tiny, written(tmp_path, kind), kind, clients=1)
    up = come_up(model, LORA, data, tmp_path / "cache")
    _, delta = up.fit(up.prepared.clients[0].id, 8, replace(FIT, local_steps=150, lr=5e-3, lr_b=5e-3, head_lr=5e-3))
    start = up.adapter(8)
    rows, dense = (floats(start[name]) + floats(delta[name]) for name in ("rows", "dense"))

    def loss_at(r: int, rows: torch.Tensor, dense: torch.Tensor) -> float:
        write(up.nested, r, rows.view(8, -1)[:r], dense)
        held_out = up.dataset.held_out
        return evaluate_tier(up.nested, r, up.dataset, held_out, 8, quiet).columns["loss"].mean().item()

    for r in (1, 8):
        assert loss_at(r, rows, dense) < loss_at(r, floats(start["rows"]), floats(start["dense"])) * 0.7


def floats(tensor: Tensor) -> torch.Tensor:
    return torch.frombuffer(bytearray(tensor.data), dtype=torch.float32)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_names_the_labels_or_the_number(tiny: Path, tmp_path: Path, kind: str):
    resident = resident_of(tiny, tmp_path, kind)
    runner = TaskRunner(CPU)
    runner._resident = resident
    _, data = specs(tiny, written(tmp_path, kind), kind)
    task = Generate("g", 1, [Asked(4, [Turn("user", "kind nest")])], 2.0, SEED, data, {}, False, 1, 0.0, 1.0, [])
    rows, dense = random_adapter(resident.nested, 4)
    reply, _ = runner.run(task, payload(rows=rows, dense=dense), quiet)
    assert isinstance(reply, Generated)
    (answer,) = reply.answers
    tokens = torch.tensor([resident.nested.task.tokenizer("kind nest")["input_ids"]])  # pyright: ignore[reportAttributeAccessIssue]
    logits = resident.nested.model(input_ids=tokens).logits[0]
    if kind == "regression":
        assert (answer.text, answer.labels) == (f"{logits.item():.6g}", None)
        return
    expected = dict(zip(["fur", "kind", "nest"], logits.sigmoid().tolist(), strict=True))
    assert answer.text == ("; ".join(name for name, value in expected.items() if value > 0.5) or "no label")
    assert answer.labels is not None
    assert {each.label: each.probability for each in answer.labels} == pytest.approx(expected)


def test_a_task_without_data_has_the_head_of_its_kind(tiny: Path, tmp_path: Path):
    found = prepared(tiny, tmp_path, written(tmp_path, KINDS[1]), KINDS[1])
    model, _ = specs(tiny, "", KINDS[1])
    nested = build_nested(model, LORA, without_data(model, found.labels, CPU).info, CPU, SEED)
    assert config_of(nested).num_labels == 1


def config_of(nested: NestedLora) -> Any:
    base: Any = nested.model.get_base_model()
    return base.config
