"""Study files that are wrong, and the one line that each fault gets."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.load import MAX_BYTES, ConfigError, load_study, parse_study, read_yaml, schema
from search_spaces.study_config import StudyConfig

VALIDATOR = jsonschema.Draft202012Validator(schema())
FILES = sorted(Path(__file__).parents[2].glob("search_spaces/*/*.yaml"))
SCALE = "{kind: constant, value: 20}"
LOSS = f"{{kind: normalized_softmax, scale: {SCALE}}}"
TRIAL = f"""trial:
  dataset: {{kind: glyphs}}
  split: {{train_classes: 10, val_classes: 5, test_classes: 5}}
  loss: {LOSS}
  epochs: 4
"""
RANGE = "{loss.scale.value: {kind: float, low: 1, high: 64, log: true}}"
LOSSES = (
    "softmax, normalized_softmax, adacos, soft_triple, arcface, cosface, circle, center, proxy_anchor, proxy_nca, "
    "contrastive, triplet"
)
EVERY_LOSS = ", ".join(sorted(LOSSES.split(", ")))


def trial(**fields: str) -> str:
    """A study file whose trial has `fields` replaced or added."""
    lines = dict(line.strip().split(": ", 1) for line in TRIAL.splitlines()[1:])
    return "trial:\n" + "".join(f"  {name}: {value}\n" for name, value in (lines | fields).items())


def scale(text: str) -> str:
    return trial(loss=LOSS.replace(SCALE, text))


def vary(text: str) -> str:
    return f"{TRIAL}vary: {text}\n"


def case(text: str) -> str:
    return f"{TRIAL}cases: [{text}]\n"


def search(text: str = "", rest: str = "", over: str = RANGE, **fields: str) -> str:
    return f"{trial(**fields)}vary: {over}\nsearch: {{max_trials: 4{text}}}\n{rest}"


def problems_of(path: Path) -> list[str]:
    """The lines that loading `path` gives, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert all(line.startswith(str(path)) and "\n" not in line for line in caught.value.problems)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [line.removeprefix(str(path)).removeprefix(": ") for line in caught.value.problems]


UNKNOWN = [
    (f"{TRIAL}sedes: [1]\n", "sedes: unknown field; did you mean seeds?"),
    (trial(bacthes="{size: 8}"), "trial.bacthes: unknown field; did you mean batches?"),
    (trial(measure="{recal_at: [1]}"), "trial.measure.recal_at: unknown field; did you mean recall_at?"),
    (
        trial(model="{kind: small_cnn, embeding_dim: 8}"),
        "trial.model.embeding_dim: unknown field; did you mean embedding_dim?",
    ),
    (trial(loss="{kind: center, lamda: 1}"), "trial.loss.lamda: unknown field; did you mean lambda?"),
    (trial(loss="{kind: softmax, xyz: 1}"), "trial.loss.xyz: unknown field; known are kind"),
    (scale("{kind: constant, value: 20, valeu: 3}"), "trial.loss.scale.valeu: unknown field; did you mean value?"),
    (case("{name: a, loss.scale.valeu: 3}"), "a: loss.scale.valeu: unknown field; did you mean value?"),
    (
        case("{name: a, loss.scale: {kind: swich, before: 3}}"),
        "a: loss.scale: unknown kind 'swich'; did you mean switch?",
    ),
    (vary("{loss.scale.valeu: [1, 3]}"), "vary.loss.scale.valeu: unknown field; did you mean value?"),
    (
        vary("{loss.scael.value: [1, 3]}"),
        "vary.loss.scael.value: the trial has no field loss.scael; did you mean scale?",
    ),
    (search(", max_trails: 4"), "search.max_trails: unknown field; did you mean max_trials?"),
    (search(", sampler: {kind: tpe, sede: 3}"), "search.sampler.sede: unknown field; did you mean seed?"),
    (
        search(", scheduler: {kind: asha, grace: 3}"),
        "search.scheduler.grace: unknown field; did you mean grace_epochs?",
    ),
    (search(rest="confirm: {seeds: [1], bset: 2}\n"), "confirm.bset: unknown field; did you mean best?"),
    (
        search(rest="confirm: {seeds: [1], baselines: [{name: a, epocs: 3}]}\n"),
        "confirm.baselines 'a': epocs: unknown field; did you mean epochs?",
    ),
    (search(over="{epocs: {kind: int, low: 1, high: 3}}"), "vary.epocs: unknown field; did you mean epochs?"),
    (
        search(over="{los.scale.value: {kind: int, low: 1, high: 3}}"),
        "vary.los.scale.value: the trial has no field los; did you mean loss?",
    ),
    (
        search(over="{loss: [{kind: softmax}, {kind: center, lamda: {kind: float, low: 0, high: 1}}]}"),
        "vary.loss.lamda: unknown field; did you mean lambda?",
    ),
    (
        search(over="{loss: [{kind: softmax}, {kind: center, lambda: {kind: float, low: 0, hihg: 1}}]}"),
        "vary.loss.1.lambda: high: missing; add it",
        "vary.loss.1.lambda: hihg: unknown field; did you mean high?",
    ),
]
DATASETS = "glyphs, digits, omniglot, mnist, fashion_mnist, kmnist, emnist, cub200, cars196, sop, image_folder"
KINDS = [
    (trial(dataset="{}"), f"trial.dataset: has no `kind`; give one of {DATASETS}"),
    (
        trial(dataset="{kind: kmnist, images_per_class: 1}"),
        "trial.dataset.images_per_class: must be greater than or equal to 2, got 1",
    ),
    (trial(dataset="digits"), 'trial.dataset: must be a mapping of fields, got "digits"; write {kind: digits}'),
    (trial(loss="{scale: 3}"), f"trial.loss: has no `kind`; give one of {LOSSES}"),
    (
        trial(loss="{kind: normalised_softmax}"),
        "trial.loss: unknown kind 'normalised_softmax'; did you mean normalized_softmax?",
    ),
    (trial(loss="{kind: xyz}"), f"trial.loss: unknown kind 'xyz'; known are {EVERY_LOSS}"),
    (
        scale("{kind: NO}"),
        "trial.loss.scale: unknown kind 'NO'; known are constant, learned, linear, quadratic, steps, switch",
    ),
    (trial(model="{kind: small_cn}"), "trial.model: unknown kind 'small_cn'; did you mean small_cnn?"),
    (
        vary("{loss.scale.value: {low: 1, high: 3}}"),
        "vary.loss.scale.value: has no `kind`; give one of float, int, choice",
    ),
    (search(", sampler: {kind: tpee}"), "search.sampler: unknown kind 'tpee'; did you mean tpe?"),
    (
        search(", scheduler: {kind: asha, mode: stpo}"),
        'search.scheduler.mode: unknown value "stpo"; did you mean stop?',
    ),
]
NUMBERS = [
    (trial(epochs="true"), "trial.epochs: must be a whole number, got true"),
    (scale("{kind: constant, value: true}"), "trial.loss.scale.value: must be a number, got true"),
    (scale("{kind: constant, value: '20'}"), 'trial.loss.scale.value: must be a number, got "20"; take the quotes off'),
    (trial(epochs='"4"'), 'trial.epochs: must be a whole number, got "4"; take the quotes off'),
    (trial(epochs="4.5"), "trial.epochs: must be a whole number, got 4.5"),
    (trial(epochs="4.0"), "trial.epochs: must be a whole number, got 4.0"),
    (trial(epochs="0x10"), 'trial.epochs: must be a whole number, got "0x10"'),
    (trial(epochs="1_0"), 'trial.epochs: must be a whole number, got "1_0"'),
    (trial(epochs="9" * 5000), "trial.epochs: must be a whole number, got Infinity"),
    (trial(epochs="0"), "trial.epochs: must be greater than or equal to 1, got 0"),
    (trial(epochs="-1"), "trial.epochs: must be greater than or equal to 1, got -1"),
    (scale("{kind: constant, value: -3}"), "trial.loss.scale.value: must be greater than 0, got -3"),
    (scale("{kind: constant, value: .nan}"), "trial.loss.scale.value: must be a finite number, got NaN"),
    (scale("{kind: constant, value: -.inf}"), "trial.loss.scale.value: must be a finite number, got -Infinity"),
    (scale("{kind: constant, value: 1e999}"), "trial.loss.scale.value: must be a finite number, got Infinity"),
    (scale("{kind: constant, value: NO}"), 'trial.loss.scale.value: must be a number, got "NO"'),
    (scale("{kind: constant, value: 010}"), 'trial.loss.scale.value: must be a number, got "010"'),
    (scale("{kind: constant, value: 1:30}"), 'trial.loss.scale.value: must be a number, got "1:30"'),
    (trial(measure="{test: yes}"), 'trial.measure.test: must be true or false, got "yes"'),
    (trial(measure="{test: 1}"), "trial.measure.test: must be true or false, got 1"),
    (f"{TRIAL}name: 2024\n", "name: must be text, got 2024; put it in quotes"),
    (
        f"{TRIAL}name: ../a\n",
        "name: must be 1 to 80 letters, digits, '_', '.' or '-', the first no sign, got \"../a\"; give another name",
    ),
    (vary("{loss.scale.value: [1, true]}"), "vary.loss.scale.value: must be a number, got true"),
    (vary("{loss.scale.value: [1, .nan]}"), "vary.loss.scale.value: must be a finite number, got NaN"),
    (
        vary("{epochs: [0, -1, 5]}"),
        "vary.epochs: must be greater than or equal to 1, got 0",
        "vary.epochs: must be greater than or equal to 1, got -1",
    ),
    (
        search(over="{loss.scale.value: {kind: float, low: -1, high: 3}}"),
        "vary.loss.scale.value: must be greater than 0, got -1.0",
    ),
    (
        search(over="{epochs: {kind: float, low: 2, high: 5}}"),
        "vary.epochs: must be a whole number, got 2.0",
        "vary.epochs: must be a whole number, got 5.0",
    ),
]
LISTS = [
    (f"{TRIAL}seeds: []\n", "seeds: holds 0 values, needs at least 1; list more"),
    (f"{TRIAL}seeds: 3\n", "seeds: must be a list, got 3; put it in [ ]"),
    (f"{TRIAL}seeds: [1, -1]\n", "seeds.1: must be greater than or equal to 0, got -1"),
    (f"{TRIAL}seeds: [-1]\n", "seeds.0: must be greater than or equal to 0, got -1"),
    (f"{TRIAL}seeds: [3000000000]\n", "seeds.0: must be less than or equal to 2147483647, got 3000000000"),
    (f"{TRIAL}seeds: [1, 1]\n", "seeds: a seed stands twice, and its trials would be the same run; list each once"),
    (vary("{loss.scale.value: []}"), "vary.loss.scale.value.options: holds 0 values, needs at least 1; list more"),
    (
        vary("{loss.scale.value: {kind: choice, options: []}}"),
        "vary.loss.scale.value.options: holds 0 values, needs at least 1; list more",
    ),
    (vary("{loss.scale.value: 3}"), "vary.loss.scale.value: must be a list or a range, got 3"),
    (vary("{loss.scale.value: [1, 3, 1]}"), "vary.loss.scale.value: 1 stands twice; list each value once"),
    (vary("{loss.scale.value: [1, 1.0]}"), "vary.loss.scale.value: 1 stands twice; list each value once"),
    (
        trial(model="{kind: small_cnn, channels: [1, 1, 1, 1, 1, 1]}"),
        "trial.model.channels: holds 6 values, takes at most 5; list fewer",
    ),
    (
        trial(measure="{recall_at: [2]}"),
        "trial.measure.recall_at: does not hold 1, and Recall@1 is the value of a trial; add it",
    ),
    (trial(measure="{recall_at: [1, 2, 2]}"), "trial.measure.recall_at: a K stands twice; list each once"),
    (
        trial(optimizer="{kind: sgd, lr_schedule: {milestones: [3, 2]}}"),
        "trial.optimizer.lr_schedule: milestones must rise; list each epoch once, in order",
    ),
    (case("{loss.scale.value: 3}"), "cases.0.name: missing; add it"),
    (case('{name: "a\\tb"}'), "cases.0.name: holds a control character; write a name that fits on one line"),
    (case("a"), 'cases.0: must be a mapping of fields, got "a"'),
    (case("{name: a}, {name: a, epochs: 5}"), "cases: two are named 'a'; rename one"),
]
YAML = [
    (f"{TRIAL}  epochs: 5\n", ":6:3: 'epochs' stands twice; keep one"),
    ("a: &a [x, x]\nb: &b [*a, *a]\n", ":2:11: aliases (*name) are not read; write the value out"),
    (f"{TRIAL}  <<: {{epochs: 3}}\n", ":6:3: merge keys (<<) are not read; write the fields out"),
    (
        TRIAL.replace("  epochs", "\tepochs"),
        ":5:1: found character '\\t' that cannot start any token; mend the YAML there",
    ),
    ("", "is empty; start with `trial:`"),
    ("# nothing yet\n", "is empty; start with `trial:`"),
    ("- a\n- b\n", "holds a list, not a mapping of fields; start with `trial:`"),
    ("hello\n", "holds text, not a mapping of fields; start with `trial:`"),
    ("a: " + "[" * 1000, ":1:1004: nested deeper than 50; mend the YAML there"),
    ("a: " + "{a: " * 60, ":1:199: nested deeper than 50; mend the YAML there"),
    (f"{TRIAL}vary: {{a: [1\n", ":7:1: expected ',' or ']', but got '<stream end>'; mend the YAML there"),
    (f"{TRIAL}---\n{TRIAL}", ":6:1: but found another document; mend the YAML there"),
    (trial(epochs="!!python/name:os.system"), ":5:10: tags (!name) are not read; write the plain value"),
    (trial(epochs="!!bool maybe"), ":5:10: tags (!name) are not read; write the plain value"),
    (trial(epochs="!!timestamp 2020-01-01"), ":5:10: tags (!name) are not read; write the plain value"),
    (f"{TRIAL}3: 4\n", ":6:1: this key is no word; fields are named by words"),
    (f"{TRIAL}[a]: 4\n", ":6:1: this key is no word; fields are named by words"),
    (f'{TRIAL}question: "a\0b"\n', ":6: holds the control character 0; remove it"),
    (f'{TRIAL}question: "\\ud800"\n', ":6:11: half of a surrogate pair is no letter; write the letter itself"),
]
TOGETHER = [
    (
        scale("{kind: switch, before: 20, after: 5, switch_epoch: 4}"),
        "trial.loss.scale.switch_epoch: 4 is not below epochs=4, so the switch never happens; lower it or raise epochs",
    ),
    (
        scale("{kind: switch, before: 20, after: 20, switch_epoch: 2}"),
        "trial.loss.scale: before equals after, so nothing switches; use kind: constant",
    ),
    (
        scale("{kind: linear, start: 20, end: 5, first_epoch: 2, epochs: 3}"),
        "trial.loss.scale: the ramp reaches its end at zero-based epoch 4, but epochs=4 stops before that; lower "
        "first_epoch or loss.scale.epochs, or raise epochs",
    ),
    (
        scale("{kind: linear, start: 20, end: 5, first_epoch: 0, epochs: 4, ends: exclusive}"),
        "trial.loss.scale: the ramp reaches its end at zero-based epoch 4, but epochs=4 stops before that; lower "
        "first_epoch or loss.scale.epochs, or raise epochs",
    ),
    (
        scale("{kind: steps, initial: 20, factor: 1e200, every: 1}"),
        "trial.loss.scale: steps out of the numbers that a computer holds; bring factor nearer to 1",
    ),
    (
        trial(optimizer="{kind: adam, lr_schedule: {tie_to_scale: {reference: 1, power: 1000}}}"),
        "trial.optimizer.lr_schedule: leaves the numbers that a computer holds; bring factor nearer to 1, power to 0",
    ),
    (
        trial(loss="{kind: triplet}", batches="{size: 34}"),
        "trial.batches.size: 34 is no multiple of images_per_class=4; change one",
    ),
    (
        trial(loss="{kind: triplet}", batches="{size: 64}"),
        "trial.batches.size: 64 images of 4 a class need 16 classes, the split trains 10; lower it",
    ),
    (
        trial(loss="{kind: adacos}", split="{train_classes: 2, val_classes: 5, test_classes: 5}"),
        "trial.split.train_classes: AdaCos needs at least 3, its scale would be 0; raise it",
    ),
    (
        trial(split="{train_classes: 2, val_classes: 0, test_classes: 0}", measure="{test: false}"),
        "trial.split: no validation and no test classes, so nothing can be measured; set val_classes",
    ),
    (
        trial(model="{kind: torchvision, architecture: resnet18, weights: {kind: file, path: w, sha256: ABC}}"),
        'trial.model.weights.sha256: must be 64 digits of 0 to 9 and a to f, got "ABC"; `sha256sum FILE` prints them',
    ),
    (trial(compute="{device: cuda}"), "trial.compute.device: cuda and gpus > 0 go together; set both or neither"),
    (
        vary("{compute.threads: [1, 2]}"),
        "threads=2: compute: all trials of a study get the same threads and device; set them in trial",
    ),
    (
        case("{name: a, loss.scale: {kind: switch, before: 9, after: 3, switch_epoch: 4}}")
        + "vary: {split.test_classes: [5, 6]}\n",
        "a, test_classes=5 and 1 more: loss.scale.switch_epoch: 4 is not below epochs=4, so the switch never happens; "
        "lower it or raise epochs",
    ),
    (
        case("{name: a, loss.scale: {kind: switch, before: 9, after: 3, switch_epoch: 4}}")
        + "vary: {epochs: [4, 5]}\n",
        "a, epochs=4: loss.scale.switch_epoch: 4 is not below epochs=4, so the switch never happens; lower it or raise "
        "epochs",
    ),
    (case("{name: a, epochs: 5}, {name: b, epochs: 5}"), "b: the same trial as 'a'; drop one"),
    (
        f"{case('{name: a, loss.scale: {kind: constant, value: 3}}')}vary: {{loss.scale.value: [1, 3]}}\n",
        "cases: 'a' sets loss.scale, which vary.loss.scale.value sets too; drop one",
    ),
    (
        vary("{loss.scale: [{kind: constant, value: 3}], loss.scale.value: [1, 3]}"),
        "vary.loss.scale.value: lies inside vary.loss.scale; put its range into the options there",
    ),
    (vary("{epochs.value: [1, 3]}"), "vary.epochs.value: epochs is 4, which has no fields; name epochs itself"),
    (vary(RANGE), "vary.loss.scale.value: a range needs a search that draws from it; list values, or add search"),
    (
        vary("{loss: [{kind: center, lambda: {kind: float, low: 1, high: 2}}]}"),
        "vary.loss: a range needs a search that draws from it; list values, or add search",
    ),
    (
        vary(f"{{epochs: {list(range(1, 400))}, split.train_classes: {list(range(2, 400))}}}"),
        "vary: makes 158802 configurations, more than 100000; list fewer values, or search",
    ),
]
SEARCHES = [
    (f"{vary(RANGE)}search: {{}}\n", "search.max_trials: missing; add it"),
    (
        f"{TRIAL}search: {{max_trials: 3}}\n",
        "vary: empty, so the search has nothing to propose; give it ranges by dotted path",
    ),
    (
        search(split="{train_classes: 10, val_classes: 0, test_classes: 5}"),
        "trial.split.val_classes: 0, but a search must not choose on test classes; hold some out",
    ),
    (
        search(over="{split.val_classes: [0, 5]}"),
        "vary.split.val_classes: 0, but a search must not choose on test classes; hold some out",
    ),
    (
        search(rest="cases: [{name: a}]\n"),
        "cases: a search proposes its own configurations; move them to confirm.baselines",
    ),
    (
        search(rest="seeds: [1, 2]\n"),
        "seeds: a search trains each proposal on search.seed; put fresh seeds into confirm.seeds",
    ),
    (
        search(rest="confirm: {seeds: [0, 1]}\n"),
        "confirm.seeds: 0 is search.seed; winners need seeds that chose nothing",
    ),
    (
        search(rest="confirm: {seeds: [2, 2]}\n"),
        "confirm.seeds: a seed stands twice, and its trials would be the same run; list each once",
    ),
    (search(rest="confirm: {best: 2}\n"), "confirm.seeds: missing; add it"),
    (
        f"{TRIAL}confirm: {{seeds: [3]}}\n",
        "confirm: needs a search whose winners it runs again; add search, or list seeds instead",
    ),
    (
        search(rest="confirm: {seeds: [1], baselines: [{name: a}, {name: a, epochs: 6}]}\n"),
        "confirm.baselines: two are named 'a'; rename one",
    ),
    (
        search(", sampler: {kind: grid}"),
        "search.sampler: grid needs lists in vary, not ranges; list values or take random, tpe, gp",
    ),
    (search(", sampler: tpe"), 'search.sampler: must be a mapping of fields, got "tpe"; write {kind: tpe}'),
    (
        search(", scheduler: {kind: asha, factor: 1}"),
        "search.scheduler.factor: must be greater than or equal to 2, got 1",
    ),
    (
        search(", scheduler: {kind: asha, grace_epochs: 4}"),
        "search.scheduler.grace_epochs: 4 is not below epochs=4, so ASHA never stops a trial; lower it or raise epochs",
    ),
    (search(", start_from: [{epochs: 4}]"), "search.start_from.0: epochs is not varied; known are loss.scale.value"),
    (
        search(", start_from: [{loss.scale.value: 65}]"),
        "search.start_from.0: loss.scale.value: 65 is not in its range in vary; change one",
    ),
    (
        search(", start_from: [{loss.scale.value: true}]"),
        "search.start_from.0: loss.scale.value: true is not in its range in vary; change one",
    ),
    (
        search(", start_from: [{loss.scale.value: 4}]", over="{loss.scale.value: [1, 3]}"),
        "search.start_from.0: loss.scale.value: 4 is not in its range in vary; change one",
    ),
    (
        search(over="{loss.scale.value: {kind: float, low: 3, high: 1}}"),
        "vary.loss.scale.value: low 3.0 is not below high 1.0; swap them",
    ),
    (
        search(over="{loss.scale.value: {kind: float, low: 0, high: 1, log: true}}"),
        "vary.loss.scale.value.log: low 0.0 must be above 0; raise it or drop log",
    ),
    (
        search(over="{epochs: {kind: int, low: 1, high: 10, step: 4}}"),
        "vary.epochs: high 10 is not low 1 plus a multiple of step 4; change one",
    ),
    (
        search(over="{loss: [{kind: softmax}, {kind: center, lambda: {kind: float, low: 3, high: 2}}]}"),
        "vary.loss.1.lambda: low 3.0 is not below high 2.0; swap them",
    ),
    (
        search(over="{loss.scale: [{kind: switch, before: 9, after: 3, switch_epoch: {kind: int, low: 5, high: 7}}]}"),
        "vary.loss.scale.switch_epoch: 5 is not below epochs=4, so the switch never happens; lower it or raise epochs",
        "vary.loss.scale.switch_epoch: 7 is not below epochs=4, so the switch never happens; lower it or raise epochs",
    ),
]
SEVERAL = [
    (
        trial(epochs="-1", bacthes="{size: 0}", loss="{kind: arcface, scale: {kind: constant, value: .nan}}")
        + "seeds: [1, 1]\nsedes: 3\n",
        "trial.loss.scale.value: must be a finite number, got NaN",
        "trial.epochs: must be greater than or equal to 1, got -1",
        "trial.bacthes: unknown field; did you mean batches?",
        "seeds: a seed stands twice, and its trials would be the same run; list each once",
        "sedes: unknown field; did you mean seeds?",
    ),
    (
        "trial: {}\n",
        "trial.dataset: missing; add it",
        "trial.split: missing; add it",
        "trial.loss: missing; add it",
        "trial.epochs: missing; add it",
    ),
    (
        search(
            ", start_from: [{a: 1}], scheduler: {kind: asha, grace_epochs: 9}", "seeds: [4]\nconfirm: {seeds: [0]}\n"
        ),
        "seeds: a search trains each proposal on search.seed; put fresh seeds into confirm.seeds",
        "search.start_from.0: a is not varied; known are loss.scale.value",
        "search.scheduler.grace_epochs: 9 is not below epochs=4, so ASHA never stops a trial; lower it or raise epochs",
        "confirm.seeds: 0 is search.seed; winners need seeds that chose nothing",
    ),
]


@pytest.mark.parametrize(
    ("text", "lines"),
    [(row[0], list(row[1:])) for row in UNKNOWN + KINDS + NUMBERS + LISTS + YAML + TOGETHER + SEARCHES + SEVERAL],
)
def test_a_faulty_file_gets_one_line_a_fault(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_text(text, encoding="utf-8")
    assert problems_of(path) == lines


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("question: ß".encode("latin-1"), "not UTF-8 at byte 10; save it as UTF-8 text"),
        (bytes(range(255, -1, -1)), "not UTF-8 at byte 0; save it as UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\0\0", ":1: holds the control character 127; remove it"),
        (b"#" * 2_000_000, f"larger than {MAX_BYTES} bytes; a study file is a page long"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, line: str) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(data)
    assert problems_of(path) == [line]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"# sent to postgresql://me:hunter2@db/x\n{TRIAL}", ":1: "),
        (f"{TRIAL}question: Is it kept at http://me:hunter2@h?\n", ":6: "),
        (f"{TRIAL}question: (postgresql+psycopg2://me:p#hunter2/w@db)\n", ":6: "),
        (f"{TRIAL}question: postgresql://me：hunter2＠db\n", ":6: "),
        (f'{TRIAL}question: "http://me\\x3ahunter2@h"\n', ":6:11: "),
        (f"{TRIAL}question: redis://:hunter2@h\n", ":6: "),
        (f"{TRIAL}x: [http://me:hunter2@h\n", ":6: "),
        (case("{name: 'http://me:hunter2@h'}"), ":6: "),
    ],
)
def test_a_uri_with_a_password_is_refused_and_not_repeated(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    (line,) = problems_of(path)
    assert line.startswith(f"{place}holds a URI with a password, ")
    assert line.endswith(
        "; take it out and set PGPASSWORD or MLFLOW_TRACKING_PASSWORD in the environment, or a line in ~/.pgpass"
    )
    assert "hunter2" not in line


def test_uris_and_addresses_without_a_password_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    question = (
        "Ask me@example.org: postgresql://me@db:5432/x, http://h:5000/#/a, or https://doi.org/10.1000/1: who@where?"
    )
    path.write_text(f'{TRIAL}question: "{question}"\n')
    assert load_study(path).question == question


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert problems_of(missing) == ["cannot be read (No such file or directory); name a YAML study file"]
    assert problems_of(tmp_path) == ["cannot be read (Is a directory); name a YAML study file"]


def test_a_file_whose_name_is_no_study_name_is_told_to_give_one(tmp_path: Path) -> None:
    path = tmp_path / "my study.yaml"
    path.write_text(TRIAL)
    assert problems_of(path) == [
        "name: must be 1 to 80 letters, digits, '_', '.' or '-', the first no sign, got \"my study\"; give another name"
    ]
    path.write_text(f"{TRIAL}name: mine\n")
    assert load_study(path).name == "mine"


@pytest.mark.parametrize(
    "name", ["mlflow.db", "MLflow.db", "mlflow.db.lock", "mlflow.db-wal", "mlartifacts", "report.html"]
)
def test_a_study_is_not_named_as_what_lies_beside_studies(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(TRIAL)
    (line,) = problems_of(path)
    assert line.startswith(f"name: {name} is no study's name: ")
    path.write_text(f"{TRIAL}name: mlflow\n")
    assert load_study(path).name == "mlflow"


@pytest.mark.parametrize("name", [".cache", ".", "..", "-a", "_a"])
def test_a_study_name_begins_with_a_letter_or_digit(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{TRIAL}name: {name}\n")
    (line,) = problems_of(path)
    assert line.startswith("name: must be 1 to 80 letters, digits, '_', '.' or '-', the first no sign, got ")


def test_numbers_and_words_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{trial(optimizer='{kind: adam, lr: 1e-3, eps: .5E-8}')}question: NO\n")
    study = load_study(path)
    assert (study.name, study.question) == ("a", "NO")
    assert (study.trial.optimizer.lr, study.trial.optimizer.eps) == (1e-3, 5e-9)  # type: ignore[union-attr]


def test_a_range_that_makes_some_invalid_trials_may_be_searched() -> None:
    text = search(
        over="{loss.scale: [{kind: switch, before: 9, after: 3, switch_epoch: {kind: int, low: 1, high: 7}}]}"
    )
    assert parse_study(yaml.safe_load(text), "a", "a").search is not None


def test_configurations_that_four_digits_do_not_tell_apart_have_two_names() -> None:
    study = parse_study(yaml.safe_load(vary("{loss.scale.value: [1.00001, 1.00002, 3.0]}")), "a", "a")
    assert [name for name, _ in study.points()] == ["s=1.00001", "s=1.00002", "s=3.0"]
    rounded = parse_study(yaml.safe_load(vary("{loss.scale.value: [1.00001, 3.0]}")), "a", "a")
    assert [name for name, _ in rounded.points()] == ["s=1", "s=3"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_study_file_here_is_read_and_fits_the_schema(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.question
    VALIDATOR.validate(read_yaml(path))


def test_the_schema_is_one_and_there_are_files_to_fit_it() -> None:
    VALIDATOR.check_schema(schema())
    assert len(FILES) >= 2


@pytest.mark.parametrize(
    "text",
    [
        f"{TRIAL}sedes: [1]\n",
        trial(epochs='"4"'),
        trial(loss="{kind: xyz}"),
        trial(dataset="{}"),
        scale("{value: 20}"),
        vary("{loss.scale.value: []}"),
        vary("{loss.scale.value: 3}"),
        case("{epochs: 3}"),
        search(", sampler: {seed: 3}"),
        "seeds: [1]\n",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError):
        parse_study(yaml.safe_load(text), "a", "a")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["kind", "float", "choice", "constant", "center", "loss.scale.value", "a.b", ""])
)
WORDS = st.sampled_from(
    ["kind", "trial", "vary", "search", "name", "loss", "scale", "value", "low", "high", "options", "epochs", "seeds"]
)
KEYS = WORDS | st.text(max_size=6)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in [(*at, key), *paths_of(item, (*at, key))]]


WHOLE = yaml.safe_load(
    search(
        ", start_from: [{loss: center}], scheduler: {kind: asha}, sampler: {kind: tpe}",
        "confirm: {seeds: [1], baselines: [{name: a, loss.scale.value: 3}]}\n",
        "{loss: [{kind: center, lambda: {kind: float, low: 0.1, high: 1}}, {kind: softmax}], epochs: [4, 5]}",
    )
)
GRID = yaml.safe_load(f"{case('{name: a, epochs: 5}, {name: b}')}vary: {{loss.scale.value: [1, 3]}}\nseeds: [0, 1]\n")


def read_or_refused(raw: Any) -> None:
    with contextlib.suppress(ConfigError):
        study = parse_study(raw, "a", "a")
        assert StudyConfig.model_validate_json(study.model_dump_json(by_alias=True)) == study


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.sampled_from([WHOLE, GRID]), st.data())
def test_a_study_with_anything_put_anywhere_is_read_or_refused(whole: Any, data: st.DataObject) -> None:
    raw = json.loads(json.dumps(whole))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(paths_of(raw)))
        node = raw
        for key in parents:
            node = node[key]
        if isinstance(node, dict) and data.draw(st.booleans()):
            node[data.draw(KEYS)] = data.draw(ANYTHING)
        elif isinstance(node, dict) and data.draw(st.booleans()):
            del node[last]
        else:
            node[last] = data.draw(ANYTHING)
        if not raw:
            break
    read_or_refused(raw)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(ANYTHING)
def test_any_value_is_read_or_refused(raw: Any) -> None:
    read_or_refused(raw)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.integers(0, len(search()) - 1),
    st.integers(0, 3),
    st.text(alphabet="{}[]:,-&*!|>%@`'\"\\#?~\t\n\x00 a1.eé\ud800", max_size=4),
)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, cut: int, put: str) -> None:
    text = search()
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes((text[:at] + put + text[at + cut :]).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        load_study(path)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.text(max_size=20))
def test_a_problem_is_one_printable_line(text: str) -> None:
    (problem,) = ConfigError(text).problems
    assert problem.isprintable()
    assert str(ConfigError(text, "b")) == f"{problem}\nb"
    assert problem == text or not text.isprintable()
