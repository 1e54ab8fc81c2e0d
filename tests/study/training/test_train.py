import hashlib
import io
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.datasets import (
    AugmentConfig,
    Batches,
    Digits,
    Glyphs,
    ImageFolder,
    NoAugment,
    RandomCrop,
    RandomResizedCrop,
    Split,
)
from search_spaces.losses import (
    AdaCos,
    Center,
    LossConfig,
    NormalizedSoftmax,
    ProxyAnchor,
    Softmax,
    SoftTriple,
    Triplet,
)
from search_spaces.models import SmallCnn
from search_spaces.optimizers import Adam, AdamW, LrSchedule, OptimizerConfig, Sgd, TieToScale
from search_spaces.schedules import ConstantScale, LearnedScale, LinearScale, SwitchScale
from search_spaces.trial_config import Compute, Measure, TrialConfig
from study.data.ahead import ahead
from study.data.build import TrialData, load_trial_data
from study.losses.base import Diverged, LossOutput
from study.training.train import Measured, Trainer, _Running, train
from tests.study.data import miniatures

SCALED = NormalizedSoftmax(scale=ConstantScale(value=8.0))
TRIAL = TrialConfig(
    dataset=Digits(),  # a name only: the images are the fixture's
    split=Split(train_classes=6, val_classes=4, test_classes=3),
    model=SmallCnn(channels=(4, 8), embedding_dim=8),
    loss=SCALED,
    batches=Batches(size=8),
    epochs=4,
)


def digest(state: dict[str, Any]) -> str:
    """sha256 of all numbers of a state, weights, buffers and the optimizer's."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            sha.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                sha.update(str(key).encode())
                feed(value[key])
        elif isinstance(value, list):
            for item in value:
                feed(item)
        else:
            sha.update(repr(value).encode())

    feed(state)
    return sha.hexdigest()


def on_disk(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def metrics_of(measured: list[Measured]) -> list[dict[str, float]]:
    return [one.result.metrics for one in measured]


RESUMED: list[tuple[LossConfig, OptimizerConfig]] = [
    (SCALED, Adam()),
    (SoftTriple(scale=SwitchScale(before=20.0, after=5.0, switch_epoch=2), proxies_per_class=3), Adam(eps=0.01)),
    (AdaCos(mode="dynamic"), AdamW()),
    (NormalizedSoftmax(scale=LearnedScale()), Sgd(nesterov=True)),
    (Center(), Adam(weight_decay=1e-4, lr_schedule=LrSchedule(milestones=(1, 3)))),
    (Triplet(), Sgd()),
    (ProxyAnchor(), Adam(lr_schedule=LrSchedule(warmup_epochs=2))),
]


@pytest.mark.parametrize(("loss", "optimizer"), RESUMED, ids=lambda config: config.kind)
def test_training_resumed_at_any_epoch_gives_the_bits_of_an_unbroken_run(
    loss: LossConfig, optimizer: OptimizerConfig, data: TrialData
) -> None:
    trial = TRIAL.replace(loss=loss, optimizer=optimizer, measure=Measure(diagnostics=True))
    unbroken = Trainer(trial, 0, data)
    states = [on_disk(unbroken.state())]
    measured = []
    for _ in range(trial.epochs):
        measured.append(unbroken.run_epoch())
        states.append(on_disk(unbroken.state()))
    for epoch in range(1, trial.epochs):
        resumed = Trainer(trial, 0, data)
        resumed.load_state(states[epoch])
        assert digest(resumed.state()) == digest(states[epoch])
        rest = [resumed.run_epoch() for _ in range(epoch, trial.epochs)]
        assert metrics_of(rest) == metrics_of(measured[epoch:])
        assert digest(resumed.state()) == digest(unbroken.state())


def test_an_optimizer_that_begins_anew_forgets_its_moments(data: TrialData) -> None:
    """And a trial that resumes before that epoch does the same."""
    fresh = TRIAL.replace(optimizer=TRIAL.optimizer.replace(fresh_epochs=(1,)))
    steps: dict[bool, list[int]] = {}
    trainers = {begins: Trainer(fresh if begins else TRIAL, 0, data) for begins in (True, False)}
    for begins, trainer in trainers.items():
        first = trainer.run_epoch()
        state = trainer.state()
        second = trainer.run_epoch()
        steps[begins] = [int(moments["step"]) for moments in trainer.state()["optimizer"]["state"].values()]
        resumed = Trainer(trainer.trial, 0, data)
        resumed.load_state(state)
        assert resumed.run_epoch().result.metrics == second.result.metrics
        assert first.result.metrics["loss"] > 0
    assert set(steps[False]) == {2 * count for count in set(steps[True])}


def test_a_state_is_a_copy_that_later_training_leaves_alone(data: TrialData) -> None:
    trainer = Trainer(TRIAL, 0, data)
    trainer.run_epoch()
    state = trainer.state()
    before = digest(state)
    trainer.run_epoch()
    assert digest(state) == before != digest(trainer.state())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 1}, "of seed 1"), ({"epochs_done": 5}, "has 5 epochs"), ({"format": 0}, "format 0")],
)
def test_a_state_that_does_not_fit_is_refused(data: TrialData, change: dict[str, int], message: str) -> None:
    trainer = Trainer(TRIAL, 0, data)
    with pytest.raises(ValueError, match=message):
        trainer.load_state(trainer.state() | change)


def test_train_goes_on_from_a_state_where_it_was_left(data: TrialData) -> None:
    trainer = Trainer(TRIAL, 0, data)
    whole = list(train(TRIAL, 0, data))
    trainer.run_epoch()
    rest = list(train(TRIAL, 0, data, trainer.state()))
    assert [one.result.epochs_done for one in rest] == [2, 3, 4]
    assert metrics_of(rest) == metrics_of(whole[1:])
    with pytest.raises(ValueError, match="all its 4 epochs"):
        list(_run(trainer, 4))


def _run(trainer: Trainer, epochs: int) -> Iterator[Measured]:
    for _ in range(epochs):
        yield trainer.run_epoch()


PROCESS = """
import sys
from pathlib import Path
from search_spaces.trial_config import TrialConfig
from study.data.build import load_trial_data
from study.training.train import Trainer
sys.path[:0] = [str(Path.cwd()), sys.argv[2]]
from test_train import digest
trial = TrialConfig.model_validate_json(sys.argv[1])
trainer = Trainer(trial, 0, load_trial_data(trial, Path(), Path()))
print([trainer.run_epoch().result.metrics for _ in range(trial.epochs)], digest(trainer.state()))
"""


def test_two_processes_train_to_the_same_bits(tmp_path: Path) -> None:
    trial = TRIAL.replace(
        dataset=Digits(images_per_class=8), split=Split(train_classes=5, val_classes=3, test_classes=2)
    )
    here = Trainer(trial, 0, load_trial_data(trial, tmp_path, tmp_path))
    expected = f"{metrics_of([here.run_epoch() for _ in range(trial.epochs)])} {digest(here.state())}"
    command = [sys.executable, "-c", PROCESS, trial.model_dump_json(), str(Path(__file__).parent)]
    there = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert there.stdout.strip() == expected


def test_trials_that_differ_in_loss_start_from_one_network_and_see_the_same_images(data: TrialData) -> None:
    first, second = (
        Trainer(TRIAL, 0, data),
        Trainer(TRIAL.replace(loss=SoftTriple(scale=ConstantScale(value=20.0))), 0, data),
    )
    assert digest(first.model.state_dict()) == digest(second.model.state_dict())
    for (images, labels), (other_images, other_labels) in zip(first._batches(1), second._batches(1), strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_another_seed_is_another_network_order_and_distortion(data: TrialData) -> None:
    first, second = Trainer(TRIAL, 0, data), Trainer(TRIAL, 1, data)
    assert digest(first.model.state_dict()) != digest(second.model.state_dict())
    assert digest(first.loss.state_dict()) != digest(second.loss.state_dict())
    (images, labels), (other_images, other_labels) = next(first._batches(0)), next(second._batches(0))
    assert not torch.equal(labels, other_labels)
    assert not torch.equal(images, other_images)


def test_batches_without_distortion_are_the_images_themselves(data: TrialData) -> None:
    trainer = Trainer(TRIAL.replace(augment=NoAugment()), 0, data)
    batches = list(trainer._batches(0))
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 8, 4]
    seen = torch.cat([images for images, _ in batches]).flatten(1)
    assert isinstance(data.train.images, torch.Tensor)
    assert torch.equal(seen.sort(dim=0).values, data.train.images.flatten(1).sort(dim=0).values)


def test_an_epoch_reports_what_its_record_promises(data: TrialData) -> None:
    trial = TRIAL.replace(
        loss=SoftTriple(scale=LinearScale(start=20.0, end=5.0, first_epoch=0, epochs=4), proxies_per_class=2),
        optimizer=Adam(lr_schedule=LrSchedule(milestones=(2,), tie_to_scale=TieToScale())),
    )
    measured = list(train(trial, 0, data))
    names = {
        "loss",
        "loss_ce",
        "loss_regularizer",
        "lr",
        "proxy_lr",
        "scale",
        "train_accuracy_running",
        "train_accuracy",
    }
    recalls = {f"{part}_recall_at_{k}" for part in ("val", "test") for k in (1, 2, 4, 8)}
    assert set(measured[0].result.metrics) == names | recalls
    assert [one.result.epochs_done for one in measured] == [1, 2, 3, 4]
    assert [one.result.metrics["scale"] for one in measured] == pytest.approx([20.0, 15.0, 10.0, 5.0])
    lrs = [one.result.metrics["lr"] for one in measured]
    assert lrs == pytest.approx([1e-3, 1e-3 * 4 / 3, 1e-4 * 2, 1e-4 * 4])
    assert [one.result.metrics["proxy_lr"] for one in measured] == pytest.approx([10 * lr for lr in lrs])
    for one in measured:
        parts = one.result.metrics
        assert parts["loss"] == pytest.approx(parts["loss_ce"] + parts["loss_regularizer"])
        assert one.result.train_s > 0
        assert one.result.eval_s > 0


@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        (Softmax(), None),
        (Triplet(), None),
        (AdaCos(), math.sqrt(2) * math.log(5)),
        (NormalizedSoftmax(scale=LearnedScale(initial=7.0)), 7.0),
    ],
    ids=["softmax", "triplet", "adacos", "learned"],
)
def test_the_scale_is_reported_where_the_loss_has_one(loss: LossConfig, scale: float | None, data: TrialData) -> None:
    metrics = Trainer(TRIAL.replace(loss=loss), 0, data).run_epoch().result.metrics
    assert metrics.get("scale") == (scale if scale is None else pytest.approx(scale, abs=0.5))
    assert ("train_accuracy" in metrics) == (loss.kind != "triplet")


def test_hits_per_class_are_kept_at_the_last_epoch_only_and_add_up(data: TrialData) -> None:
    measured = list(train(TRIAL, 0, data))
    assert [sorted(one.arrays) for one in measured[:-1]] == [[], [], []]
    last = measured[-1]
    for part in ("val", "test"):
        hits, images = last.arrays[f"{part}_class_hits"], last.arrays[f"{part}_class_images"]
        assert (images == 6).all()
        assert hits.sum() / images.sum() == last.result.metrics[f"{part}_recall_at_1"]


def test_a_trial_that_ends_on_anothers_epoch_gets_its_arrays_from_the_state(data: TrialData) -> None:
    longer = Trainer(TRIAL.replace(epochs=9), 0, data)
    for _ in range(TRIAL.epochs):
        measured = longer.run_epoch()
    assert not measured.arrays
    shorter = Trainer(TRIAL, 0, data)
    shorter.load_state(longer.state())
    *_, last = train(TRIAL, 0, data)
    arrays = shorter.arrays()
    assert set(arrays) == set(last.arrays)
    assert all((arrays[name] == last.arrays[name]).all() for name in arrays)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trial_run_twice_gives_the_same_bits(threads: int, data: TrialData) -> None:
    trial = TRIAL.replace(compute=Compute(threads=threads), model=SmallCnn(channels=(16, 32), embedding_dim=8))
    trainers = [Trainer(trial, 0, data) for _ in range(2)]
    first, second = [[trainer.run_epoch().result.metrics for _ in range(2)] for trainer in trainers]
    assert first == second
    assert digest(trainers[0].state()) == digest(trainers[1].state())


def test_a_search_measures_no_test_class(data: TrialData) -> None:
    (first, *_) = train(TRIAL, 0, TrialData(data.train, data.val, None))
    assert not [name for name in first.result.metrics if name.startswith("test")]


def test_running_loss_and_accuracy_are_means_over_images_not_over_batches() -> None:
    running = _Running()
    for size, loss, right in ((3, 2.0, 3), (1, 6.0, 0)):
        labels = torch.zeros(size, dtype=torch.int64)
        similarities = torch.tensor([[1.0, 0.0]] * right + [[0.0, 1.0]] * (size - right))
        running.add(LossOutput(torch.tensor(loss), {"ce": torch.tensor(loss / 2)}, similarities), labels)
    assert running.metrics(0) == {"loss": 3.0, "loss_ce": 1.5, "train_accuracy_running": 0.75}


def test_a_warm_up_trains_only_the_proxies_and_the_last_layer(data: TrialData) -> None:
    trainer = Trainer(TRIAL.replace(optimizer=Adam(lr_schedule=LrSchedule(warmup_epochs=1))), 0, data)

    def weights() -> dict[str, torch.Tensor]:
        named = [*trainer.model.named_parameters(), *trainer.loss.named_parameters(prefix="loss")]
        return {name: parameter.detach().clone() for name, parameter in named}

    def moved(before: dict[str, torch.Tensor]) -> set[str]:
        return {name for name, value in weights().items() if not torch.equal(value, before[name])}

    start = weights()
    trainer.run_epoch()
    assert moved(start) == {"embed.weight", "embed.bias", "loss.weight"}
    warm = weights()
    trainer.run_epoch()
    assert moved(warm) == set(warm)


def test_a_rate_far_too_large_diverges_with_epoch_and_batch_named(data: TrialData) -> None:
    trial = TRIAL.replace(loss=Softmax(), optimizer=Sgd(lr=1e12, proxy_lr=1e12))
    with pytest.raises(Diverged, match=r"epoch 0, batch \d: the loss is (nan|inf)"):
        list(train(trial, 0, data))


def test_an_embedding_that_is_not_finite_diverges_before_anything_is_reported(data: TrialData) -> None:
    trainer = Trainer(TRIAL, 0, data)
    trainer.run_epoch()
    trainer.run_epoch()
    with torch.no_grad():
        trainer.model.get_buffer("blocks.0.norm.running_var").fill_(math.nan)  # training alone never reads it
    with pytest.raises(Diverged, match="epoch 2: an embedding of a val image is not finite"):
        trainer.run_epoch()


def test_what_a_loss_calls_diverged_gets_epoch_and_batch(data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(TRIAL, 0, data)

    def run_away(*_: object) -> None:
        raise Diverged("the scale ran away")

    monkeypatch.setattr(trainer.loss, "after_step", run_away)
    with pytest.raises(Diverged, match="epoch 0, batch 0: the scale ran away"):
        trainer.run_epoch()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_and_resumes_to_the_bit(precision: str, data: TrialData) -> None:
    trial = TRIAL.replace(compute=Compute.model_validate({"precision": precision}), measure=Measure(diagnostics=True))
    unbroken = Trainer(trial, 0, data)
    unbroken.run_epoch()
    state = on_disk(unbroken.state())
    expected = unbroken.run_epoch().result.metrics
    resumed = Trainer(trial, 0, data)
    resumed.load_state(state)
    assert resumed.run_epoch().result.metrics == expected
    full = Trainer(TRIAL, 0, data)
    assert (
        full.run_epoch().result.metrics["loss"] != metrics_of(list(train(trial.replace(epochs=1), 0, data)))[-1]["loss"]
    )
    assert full.run_epoch().result.metrics["loss"] == pytest.approx(expected["loss"], rel=0.1)


@pytest.mark.slow
def test_compiled_training_agrees_with_plain_and_resumes_to_the_bit(data: TrialData) -> None:
    trial = TRIAL.replace(compute=Compute(compile=True))
    unbroken = Trainer(trial, 0, data)
    first = unbroken.run_epoch().result.metrics
    state = on_disk(unbroken.state())
    expected = unbroken.run_epoch().result.metrics
    resumed = Trainer(trial, 0, data)
    resumed.load_state(state)
    assert resumed.run_epoch().result.metrics == expected
    plain = Trainer(TRIAL, 0, data)
    assert plain.run_epoch().result.metrics["loss"] == pytest.approx(first["loss"], rel=1e-4)
    plain.load_state(state)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    folder = tmp_path_factory.mktemp("photos")
    miniatures.class_folders(folder)
    return load_trial_data(PHOTOS, folder, folder)


PHOTOS = TRIAL.replace(
    dataset=ImageFolder(folder="pets", shorter_side=40, side=32),
    split=Split(train_classes=2, val_classes=1, test_classes=1),
    augment=RandomResizedCrop(),
    batches=Batches(size=4),
    epochs=3,
)


@pytest.mark.parametrize("augment", [RandomResizedCrop(), RandomCrop(), NoAugment()], ids=lambda config: config.kind)
def test_training_on_photos_resumes_to_the_bit(augment: AugmentConfig, photos: TrialData) -> None:
    trial = PHOTOS.replace(augment=augment)
    unbroken = Trainer(trial, 0, photos)
    unbroken.run_epoch()
    state = on_disk(unbroken.state())
    expected = [unbroken.run_epoch() for _ in range(2)]
    resumed = Trainer(trial, 0, photos)
    resumed.load_state(state)
    assert metrics_of([resumed.run_epoch() for _ in range(2)]) == metrics_of(expected)
    assert digest(resumed.state()) == digest(unbroken.state())


def test_photos_are_cut_anew_in_each_epoch_and_differ_by_seed(photos: TrialData) -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(Trainer(PHOTOS, seed, photos)._batches(epoch))[0]

    images = first(0, 0)
    assert images.shape == (4, 3, 32, 32)
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert torch.equal(images, first(0, 0))
    assert not torch.equal(images, first(0, 1))
    assert not torch.equal(images, first(1, 0))


def test_the_background_thread_that_feeds_a_gpu_gives_the_same_batches(photos: TrialData) -> None:
    trainer = Trainer(PHOTOS, 0, photos)
    for (images, labels), (other, other_labels) in zip(trainer._batches(0), ahead(trainer._batches(0)), strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, other_labels)


def test_a_few_epochs_on_glyphs_beat_the_untrained_network(cache_dir: Path) -> None:
    trial = TRIAL.replace(
        dataset=Glyphs(),
        split=Split(train_classes=20, val_classes=20, test_classes=2),
        model=SmallCnn(channels=(8, 16, 32)),
        epochs=8,
        batches=Batches(size=16),
        measure=Measure(test=False, embedding_epochs=(0,)),
    )
    untrained, *_, last = train(trial, 0, load_trial_data(trial, cache_dir, cache_dir))
    assert untrained.result.epochs_done == 0
    assert last.result.metrics["val_recall_at_1"] > untrained.result.metrics["val_recall_at_1"] + 0.1
