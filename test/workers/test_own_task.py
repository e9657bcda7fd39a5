"""A task of one's own, from the module that a config names."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import CPU, Up, come_up
from prelort_worker.errors import InputError
from prelort_worker.tasks.find import find_task
from prelort_worker.wire.specs import DataSpec, LoraSpec, ModelSpec
from specs import FIT, LORA, data_spec, model_spec

# A model that is nobody else's: which of four topics do a text's words tell, by a table and two linear maps?
BAG = """
import json
from pathlib import Path
import torch
from torch import nn
from prelort_worker.rows.row import Row
from prelort_worker.tasks import Task

WORDS = {}

class Bag(nn.Module):
    def __init__(self, n_labels):
        super().__init__()
        self.table, self.first, self.head = nn.Embedding(50, 16), nn.Linear(16, 16), nn.Linear(16, n_labels)

    def forward(self, words):
        return self.head(torch.tanh(self.first(self.table(words)))).mean(1)

class Topics(Task):
    targets = ("topic",)
    heads = ("head",)

    def read(self, path, split, data):
        return [Row(f"{path}#{n}", json.loads(line)) for n, line in enumerate(Path(path).read_text().splitlines())]

    def label(self, row, data):
        return row.columns["topic"]

    def encode(self, rows, data, progress):
        vocabulary = sorted({word for row in rows for word in row.columns["text"].split()})
        return [
            {
                "words": torch.tensor([vocabulary.index(word) for word in row.columns["text"].split()]),
                "topic": torch.tensor(self.labels.index(row.columns["topic"])),
            }
            for row in rows
        ]

    def length(self, example):
        return len(example["words"])

    def build_model(self):
        return Bag(len(self.labels))

    def losses(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["topic"], reduction="none")

    def answers(self, outputs, batch):
        return outputs.argmax(-1), batch["topic"]

    def metrics(self, outputs, batch):
        chance = outputs.softmax(-1)[torch.arange(len(outputs)), batch["topic"]]
        return {"chance": chance, "endless": chance / 0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where modules are written, of names that no other test has."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def write(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(source)
    return path


def model_of(folder: Path, task: str, name_or_path: str = "none") -> ModelSpec:
    return model_spec(folder, task, name_or_path=name_or_path, task_folder=str(folder))


def bare(tiny: Path, **changes: Any) -> DataSpec:
    """Nothing but a path: what its rows are is for the task to know."""
    return data_spec(tiny, "sequence-classification", **{"text": None, "label": None, **changes})


def up_with(tiny: Path, folder: Path, module: str, source: str, lora: LoraSpec = LORA) -> Up:
    write(folder, module, source)
    return come_up(model_of(folder, f"{module}:Topics"), lora, bare(tiny), folder / "cache")


def test_a_task_with_a_model_and_rows_of_its_own_learns_at_every_rank(tiny: Path, folder: Path):
    up = up_with(tiny, folder, "bag_of_words", BAG)
    assert up.prepared.labels == ["animal", "food", "tool", "weather"]
    assert sum(count.n for count in up.prepared.clients[0].mix) == up.prepared.clients[0].n == 34
    assert {count.value: count.n for count in up.prepared.clients[0].mix} == dict(
        zip(up.prepared.labels, up.prepared.clients[0].label_counts, strict=True)
    )
    assert (
        up.prepared.clients[0].n_tokens == sum(up.dataset.length(index) for index in up.dataset.of_client("c00")) > 34
    )
    assert [(module.name, module.in_, module.out) for module in up.loaded.modules] == [("first", 16, 16)]
    assert (up.loaded.peft_type, up.loaded.modules_to_save) == (None, ["head"])
    assert [(entry.name, entry.kind, entry.parameters) for entry in up.loaded.left_out] == [("table", "Embedding", 800)]
    for objective in ("stratified", "sum"):
        spec = replace(FIT, objective=objective, local_steps=20)
        first, last = up.fit("c01", 4, replace(spec, local_steps=1))[0].loss, up.fit("c01", 4, spec)[0].loss
        assert first is not None and last is not None and last < first


@torch.no_grad()
def test_custom_metrics_are_summed_over_the_examples_at_every_rank(tiny: Path, folder: Path):
    up = up_with(tiny, folder, "bag_with_metrics", BAG)
    tiers = up.evaluate([2, 8], batch_size=1)
    dataset, model = up.dataset, up.nested.model
    model.eval()
    chances = [
        float(model(words=dataset.value("words", index)[None]).softmax(-1)[0, int(dataset.value("topic", index))])
        for index in range(24)
    ]
    assert tiers[1].metrics["chance"] == pytest.approx(sum(chances), rel=1e-5)
    assert tiers[0].metrics["chance"] != tiers[1].metrics["chance"]
    assert all(tier.metrics["endless"] is None for tier in tiers)
    assert tiers[1].labels is not None and sum(tiers[1].labels.actual) == 24


def test_a_tasks_module_is_found_by_its_file_and_shadows_no_other(folder: Path):
    write(
        folder,
        "json",
        "from prelort_worker.tasks import Task\nfrom beside import VALUE\nclass Mine(Task): value = VALUE\n",
    )
    write(folder, "beside", "VALUE = 7\n")
    found: Any = type(find_task(model_of(folder, "json:Mine"), CPU))
    assert found.value == 7
    assert not hasattr(sys.modules["json"], "Mine")


@pytest.mark.parametrize(
    ("source", "task", "reason"),
    [
        (None, "not_written:Mine", r"\bnot_written\b.*: ModuleNotFound"),
        ("1 / 0", "divides:Mine", r"\bdivides\b.*: ZeroDivisionError: division by zero"),
        ("import nowhere", "lacks:Mine", r"\blacks\b.*: No module named 'nowhere'"),
        ("class Other: pass", "others:Mine", r"\bothers\b.*\bMine\b.*\bprelort_worker\.tasks\.Task\b"),
        ("class Mine: pass", "plain:Mine", r"\bplain\b.*\bMine\b.*\bprelort_worker\.tasks\.Task\b"),
        ("Mine = 3", "number:Mine", r"\bnumber\b.*\bMine\b.*\bprelort_worker\.tasks\.Task\b"),
        ("", "empty:", r"\bempty\b.*\bprelort_worker\.tasks\.Task\b"),
        (None, "spell-checking", r"'spell-checking'"),
    ],
)
def test_a_missing_task_is_reported(folder: Path, source: str | None, task: str, reason: str):
    if source is not None:
        write(folder, task.partition(":")[0], source)
    with pytest.raises(InputError, match=reason) as refused:
        find_task(model_of(folder, task), CPU)
    assert refused.value.problems[0][0] == "model.task"


ONE_LOSS = BAG.replace('reduction="none")', ")")
FEW_LOSSES = BAG.replace('reduction="none")', 'reduction="none")[:1]')
MORE_EXAMPLES = BAG.replace("for row in rows\n        ]", "for row in [*rows, *rows]\n        ]")


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("one_loss", ONE_LOSS, r"Topics\.losses: .*\[\]"),
        ("few_losses", FEW_LOSSES, r"Topics\.losses: .*\b2\b.*\[1\]"),
        ("more_examples", MORE_EXAMPLES, r"Topics\.encode gave 320 examples for 160 rows"),
    ],
)
def test_wrong_output_of_a_task_is_reported_before_training(
    tiny: Path, folder: Path, module: str, source: str, reason: str
):
    with pytest.raises(InputError, match=reason) as refused:
        up_with(tiny, folder, module, source)
    assert refused.value.problems[0][0] == "model.task"


FLAT = BAG.replace(
    "self.first(self.table(words))", "self.first(self.table(words).flatten(0, 1)).view(*words.shape, 16)"
)


def test_a_model_that_cannot_separate_examples_trains_with_objectives_that_do_not_need_it(tiny: Path, folder: Path):
    up = up_with(tiny, folder, "flat", FLAT)
    for objective in ("none", "sum", "sampled"):
        assert up.fit("c01", 8, replace(FIT, objective=objective))[0].loss is not None
    with pytest.raises(InputError, match=r"first \w+ \d+ rows .*\b\d+ examples\b"):
        up.fit("c01", 8, FIT)


def test_a_metric_without_one_value_per_example_is_reported(tiny: Path, folder: Path):
    up = up_with(tiny, folder, "mean_metric", BAG.replace('"chance": chance,', '"chance": chance.mean(),'))
    with pytest.raises(InputError, match=r"\bchance\b.*\b5\b.*\[\]"):
        up.evaluate([2], batch_size=5)


def test_a_model_from_outside_transformers_needs_target_modules(tiny: Path, folder: Path):
    with pytest.raises(InputError, match="PEFT") as refused:
        up_with(tiny, folder, "no_targets", BAG, replace(LORA, target_modules=None))
    assert refused.value.problems[0][0] == "lora.target_modules"


def test_changing_the_module_prepares_the_data_again(tiny: Path, folder: Path):
    first = up_with(tiny, folder, "changes", BAG).prepared.index
    assert up_with(tiny, folder, "changes", BAG).prepared.index == first
    again = up_with(tiny, folder, "changes", BAG + "\n# another\n").prepared.index
    assert again.path != first.path
    assert again.sha256 != first.sha256  # by which a resume tells that it is another run


SURE = """
from prelort_worker.tasks.sequence_classification import SequenceClassification

class Sure(SequenceClassification):
    def metrics(self, outputs, batch):
        return {"confidence": outputs.logits.float().softmax(-1).amax(-1)}
"""


def test_a_metric_may_not_have_the_name_of_one_that_prelort_computes(tiny: Path, folder: Path):
    write(folder, "same", SURE.replace("confidence", "accuracy"))
    task = model_of(folder, "same:Sure", str(tiny / "tiny-bert"))
    worker = come_up(task, LORA, data_spec(tiny, "sequence-classification"), folder / "cache")
    with pytest.raises(InputError, match=r"macro_f1.* got accuracy") as refused:
        worker.evaluate([4])
    assert refused.value.problems[0][0] == "model.task"


def test_a_subclass_of_a_built_in_task_that_adds_a_metric_trains_alike(tiny: Path, folder: Path):
    write(folder, "sure", SURE)
    data = data_spec(tiny, "sequence-classification")
    plain = come_up(model_spec(tiny, "sequence-classification"), LORA, data, folder / "cache")
    sure = come_up(model_of(folder, "sure:Sure", str(tiny / "tiny-bert")), LORA, data, folder / "cache")
    assert sure.prepared.index.path != plain.prepared.index.path
    assert sure.prepared.clients == plain.prepared.clients and sure.loaded.modules == plain.loaded.modules
    assert sure.fit("c01", 4, FIT)[1] == plain.fit("c01", 4, FIT)[1]
    (own,), (other,) = sure.evaluate([4]), plain.evaluate([4])
    assert (own.loss_sum, own.labels) == (other.loss_sum, other.labels)
    assert other.metrics == {} and own.metrics.keys() == {"confidence"}
    confidence = own.metrics["confidence"]
    assert confidence is not None and 24 / 4 < confidence < 24


READS = """
from prelort_worker.rows.row import Row
from prelort_worker.tasks.sequence_classification import SequenceClassification

class Reads(SequenceClassification):
    def read(self, path, split, data):
        return [Row(f"{path}:{n}", {"text": line[1:], "topic": line[0]}) for n, line in enumerate(open(path))]
"""


def test_a_task_with_its_own_reader_may_read_anything(tiny: Path, folder: Path):
    write(folder, "reads", READS)
    path = folder / "lines.of.mine"
    path.write_text("afur paw\nbsweet dish\n" * 20)
    data = data_spec(tiny, "sequence-classification", path=str(path), clients=2, eval_examples=4)
    model = model_of(folder, "reads:Reads", str(tiny / "tiny-bert"))
    up = come_up(model, LORA, data, folder / "cache")
    assert up.prepared.labels == ["a", "b"] and up.prepared.n_eval == 4
    path.write_text("afur paw\nbsweet bread\n" * 20)
    assert come_up(model, LORA, data, folder / "cache").prepared.index.path != up.prepared.index.path


SPELLS = """
from prelort_worker.tasks.causal_lm import CausalLm

class Spells(CausalLm):
    def score(self, answer, reference):
        return {"words": len(answer.split()), "same": float(answer == reference)}
"""


def test_custom_scores_of_generated_answers_are_summed_beside_rouge_l(tiny: Path, folder: Path):
    write(folder, "spells", SPELLS)
    model = model_of(folder, "spells:Spells", str(tiny / "tiny-llama"))
    up = come_up(model, LORA, data_spec(tiny, "causal-lm"), folder / "cache")
    (silent,), (told,) = up.evaluate([4]), up.evaluate([4], max_new_tokens=3)
    assert silent.metrics.keys() == {"token_accuracy"}
    assert told.metrics.keys() == {"token_accuracy", "words", "same"} and told.rouge_l_sum is not None
    words = told.metrics["words"]
    assert words is not None and 24 <= words <= 3 * 24


def test_a_task_in_a_package_may_import_its_siblings(folder: Path):
    (folder / "beside_package").mkdir()
    write(folder, "beside_package/__init__", "")
    write(folder, "beside_package/words", "LIMIT = 7\n")
    write(
        folder, "beside_package/task", "from .words import LIMIT\nfrom . import words\n" + BAG + "    limit = LIMIT\n"
    )
    task: Any = find_task(model_of(folder, "beside_package.task:Topics"), CPU)
    assert task.limit == 7


WRAPS = """
from prelort_worker.tasks.sequence_classification import SequenceClassification

class Wraps(SequenceClassification):
    def losses(self, outputs, batch):
        return 2 * super().losses(outputs, batch)

class Forgets(SequenceClassification):
    def losses(self, outputs, batch):
        return (outputs.logits.float() ** 2).sum(-1)
"""


def test_smoothed_labels_reach_losses_of_ones_own_that_use_them_and_are_refused_where_they_do_not(
    tiny: Path, folder: Path
):
    write(folder, "wraps", WRAPS)
    data = data_spec(tiny, "sequence-classification")
    spec = replace(FIT, objective="none", label_smoothing=0.3)
    ups = [
        come_up(model_of(folder, f"wraps:{name}", str(tiny / "tiny-bert")), LORA, data, folder / "cache")
        for name in ("Wraps", "Forgets")
    ]
    smoothed, plain = (ups[0].fit("c01", 4, each)[0].loss for each in (spec, replace(spec, label_smoothing=0.0)))
    assert smoothed != plain
    with pytest.raises(InputError, match=r"no effect on Forgets\.losses, .* by self\.label_smoothing"):
        ups[1].fit("c01", 4, spec)
