from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load
from analysis.account import duration
from analysis.answer import answer
from analysis.page import Figure, Page, Section, Table, render, slug
from analysis.report import build, write
from analysis.summary import configurations, epochs_cost, seeds_table, short_name
from benchmarks.made_up import (
    curve,
    plan_config,
    search_config,
    study_event,
    trial_event,
    trial_fields,
    trial_lines,
    write_plan,
    write_search,
)
from search_spaces.trial_config import TrialConfig
from study.ledger.write import LedgerWriter
from study.records import LINKS_NAME, MlflowLinks, Phase, Status

SCALES = {"loss.scale.value": [1, 5, 20, 60]}


def flat_curve(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, float]:
    """Only the scale decides: s=20 is best by far, seeds differ by the same for all."""
    metrics = curve(trial, seed, epochs_done)
    best = 0.9 - abs(metrics["scale"] - 20) / 100 + 0.01 * seed + 1e-4 * ((seed * 7 + round(metrics["scale"])) % 3)
    return {**metrics, "val_recall_at_1": best, "test_recall_at_1": best - 0.2}


def test_the_answer_names_the_best_scales_and_where_adacos_stands(tmp_path: Path) -> None:
    config = plan_config(vary=SCALES, seeds=[0, 1, 2, 3, 4])
    said = answer(load(write_plan(tmp_path / "s", config, flat_curve)))
    assert said.best == ["s=20"]
    text = " ".join(said.sentences)
    assert "Better than every other on validation classes (5 seeds, 4 configurations" in text
    assert "Of the constant scales, the only one not worse than the best is 20; AdaCos's closed-form scale" in text
    assert "√2 ln(C−1) = 6.50 (C = 100) lies below" in text
    assert "lies below (not tested itself; the nearest tested scale is 5)" in text
    assert "On test classes, which chose nothing, s=20 has 72.0% (95% interval" in text
    assert said.warnings == []


def test_one_seed_gives_no_ranking(tmp_path: Path) -> None:
    said = answer(load(write_plan(tmp_path / "s", plan_config(vary=SCALES, seeds=[0]), flat_curve)))
    assert said.best == []
    assert "One seed each cannot tell configurations apart" in said.sentences[0]
    assert "cannot be said from one seed" in said.sentences[1]
    assert any("luck of the seed" in warning for warning in said.warnings)


def test_chosen_on_test_is_said(tmp_path: Path) -> None:
    split = {"train_classes": 100, "val_classes": 0, "test_classes": 200}
    study = load(write_plan(tmp_path / "s", plan_config(trial=trial_fields(split=split))))
    page, (said,) = build([study])
    assert "chosen on test" in page.subtitle
    assert said.warnings[0].startswith("Chosen on test")
    assert "on test classes" in said.sentences[0]


def test_unfinished_diverged_and_failed_trials_are_warned_of_and_count_in_no_mean(tmp_path: Path) -> None:
    config = plan_config(seeds=[0, 1, 2])
    (low, low_values, low_trial), (high, high_values, high_trial) = config.configurations()
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config))
        for seed in (0, 1):
            writer.append(trial_event(seed, low, low_trial, seed, Phase.PLAN, dict(low_values)))
            writer.append(*trial_lines(seed, low_trial, seed))
        plan: list[tuple[int, Status, str]] = [
            (2, Status.DIVERGED, "loss is not finite"),
            (3, Status.FAILED, "RuntimeError"),
            (4, Status.RUNNING, ""),
        ]
        for number, status, reason in plan:
            writer.append(trial_event(number, high, high_trial, number, Phase.PLAN, dict(high_values)))
            writer.append(*trial_lines(number, high_trial, number, epochs=1, status=status, reason=reason))
    study = load(tmp_path / "s")
    table = configurations(study)
    high_row = table[table["configuration"] == "s=20"]
    assert high_row[["n", "diverged", "failed", "unfinished"]].to_numpy().tolist() == [[0, 1, 1, 1]]
    assert high_row["mean"].isna().all()
    warnings = " ".join(answer(study).warnings)
    for words in ("1 trial has not ended", "1 trial has diverged", "1 trial has failed", "Left out of the comparison"):
        assert words in warnings
    text = render(build([study])[0])
    assert "loss is not finite" in text
    assert "RuntimeError" in text


def test_a_study_without_an_ended_trial_has_a_page(tmp_path: Path) -> None:
    config = plan_config()
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config))
    study = load(tmp_path / "s")
    assert answer(study).sentences == ["No trial is complete yet, so there is no answer yet."]
    assert "no answer yet" in render(build([study])[0])
    with LedgerWriter(tmp_path / "s") as writer:
        name, values, trial = config.configurations()[0]
        writer.append(trial_event(0, name, trial, 0, Phase.PLAN, dict(values)))
        writer.append(*trial_lines(0, trial, 0, epochs=1, status=Status.RUNNING))
    assert "1 trial has not ended yet" in render(build([load(tmp_path / "s")])[0])


def test_a_search_keeps_its_best_value_apart_from_the_confirmed_mean(tmp_path: Path) -> None:
    study = load(write_search(tmp_path / "s", search_config(), 12))
    said = answer(study)
    assert said.sentences[0].startswith("The search made 12 proposals (")
    assert "flatters itself" in said.sentences[1]
    assert set(configurations(study)["configuration"]) == set(
        study.trials.loc[study.trials["phase"] == "confirm", "configuration"]
    )
    assert any("confirmed winners have" in sentence for sentence in said.sentences)


def test_a_winner_is_named_with_its_parameters_once(tmp_path: Path) -> None:
    study = load(write_search(tmp_path / "s", search_config(), 12))
    winners = study.trials.loc[study.trials["phase"] == "confirm", "configuration"].unique()
    named = {name: f"best {rank}: {name}" for rank, name in enumerate(winners, start=1)}
    confirmed = study.trials["phase"] == "confirm"
    study.trials.loc[confirmed, "configuration"] = study.trials.loc[confirmed, "configuration"].map(named)
    text = " ".join(answer(study).sentences)
    assert "best 1 (s=" in text
    assert "best 1: " not in text
    assert text.count(f"({winners[0]}") == 1
    assert short_name("best 12: s=1") == "best 12"
    assert short_name("best: s=1") == "best: s=1"
    assert "best 1: " in render(build([study])[0])


def test_the_page_says_where_its_runs_stand_in_mlflow(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config(vary={"loss.scale.value": list(range(1, 15))})))
    text = render(build([study])[0])
    assert "python -m study ui" in text
    assert "s=12\n            ... and 2 more configurations\n            under each configuration: seed 0, 1" in text


def test_a_gap_among_the_best_scales_is_no_stretch(tmp_path: Path) -> None:
    config = plan_config(vary={"loss.scale.value": [2, 6.5, 20]}, seeds=[0, 1, 2])

    def dented(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, float]:
        metrics = curve(trial, seed, epochs_done)
        noise = 1e-3 * ((seed * 7 + round(metrics["scale"])) % 3)
        return {**metrics, "val_recall_at_1": (0.3 if metrics["scale"] == 6.5 else 0.5) + noise}

    text = " ".join(answer(load(write_plan(tmp_path / "s", config, dented))).sentences)
    assert "Of the constant scales, those not worse than the best are 2 and 20;" in text
    assert "lies between them (tested as s = 6.5)" in text


def test_scales_are_compared_where_nothing_else_differs(tmp_path: Path) -> None:
    cases = [{"name": f"s={scale}", "loss.scale.value": scale} for scale in (2, 6.5, 20)]
    wide = {"name": "s=20, D=512", "loss.scale.value": 20, "model.embedding_dim": 512}
    config = plan_config(vary={}, cases=[*cases, wide], seeds=[0, 1, 2])

    def better_wide(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, float]:
        metrics = curve(trial, seed, epochs_done)
        level = {2: 0.3, 6.5: 0.5, 20: 0.4}[metrics["scale"]] + (0.3 if trial.model.embedding_dim == 512 else 0.0)
        return {**metrics, "val_recall_at_1": level + 1e-3 * ((seed * 7 + round(metrics["scale"])) % 3)}

    text = " ".join(answer(load(write_plan(tmp_path / "s", config, better_wide))).sentences)
    assert "Better than every other on validation classes" in text
    assert "Of the 3 constant scales that differ in nothing else, the only one not worse than the best is 6.5;" in text
    sweep = plan_config(vary={"loss.scale.value": [2, 20], "model.embedding_dim": [8, 64]}, seeds=[0, 1, 2])
    text = " ".join(answer(load(write_plan(tmp_path / "sweep", sweep))).sentences)
    assert "Constant scales were tried in several settings; the figures show each." in text


def test_a_configuration_needs_two_seeds_to_be_compared(tmp_path: Path) -> None:
    config = plan_config()
    (low, low_values, low_trial), (high, high_values, high_trial) = config.configurations()
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config))
        for number, (name, values, trial, seed) in enumerate(
            [(low, low_values, low_trial, 0), (low, low_values, low_trial, 1), (high, high_values, high_trial, 0)]
        ):
            writer.append(trial_event(number, name, trial, seed, Phase.PLAN, dict(values)))
            writer.append(*trial_lines(number, trial, seed))
    table, left_out = seeds_table(load(tmp_path / "s"))
    assert list(table.index) == ["s=5"]
    assert left_out == ["s=20"]


def test_the_page_is_one_small_file_that_needs_no_network(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config(vary=SCALES, seeds=[0, 1, 2])))
    write([study], tmp_path / "s" / "report.html")
    text = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert len(text) < 8e6
    ours = text.replace(text[text.index("<script>") : text.index("</script>")], "", 1)
    assert not re.search(r"""(src|href)=["'](?!#)""", ours)
    assert "://" not in re.sub(r"<pre>.*?</pre>", "", ours, flags=re.S)
    ids = re.findall(r'\bid="([^"]+)"', ours)
    assert len(ids) == len(set(ids))
    for anchor in re.findall(r'href="#([^"]+)"', ours):
        assert anchor in ids
    for figure in re.findall(r'<script type="application/json">(.*?)</script>', ours, flags=re.S):
        layout = json.loads(figure)["layout"]
        assert layout["xaxis"]["title"]["text"]
    names = {path.name for path in (tmp_path / "s" / "figures").iterdir()}
    assert {"scale-curve.csv", "thesis-curve.csv", "learning-val-recall-at-1.csv", "trials.csv"} <= names
    curve_csv = pd.read_csv(tmp_path / "s" / "figures" / "scale-curve.csv")
    assert set(curve_csv["split"]) == {"validation", "test"}
    assert (curve_csv["recall"] <= 1).all()


def test_what_a_user_wrote_is_escaped_everywhere(tmp_path: Path) -> None:
    nasty = "</script><img src=x onerror=alert(1)>"
    cases: list[dict[str, Any]] = [{"name": nasty}, {"name": "b", "loss.scale.value": 5}]
    config = plan_config(vary={}, cases=cases, question=nasty)
    study = load(write_plan(tmp_path / "s", config))
    text = render(build([study])[0])
    assert nasty not in text
    assert "<img" not in text[text.index("<body>") :]
    for figure in re.findall(r'<script type="application/json">(.*?)</script>', text, flags=re.S):
        assert "<img" not in json.dumps(json.loads(figure))


def test_several_studies_share_a_page_without_sharing_ids(tmp_path: Path) -> None:
    studies = [load(write_plan(tmp_path / name, plan_config(name))) for name in ("one", "two")]
    answers = write(studies, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(answers) == 2
    assert 'id="one-scale-curve"' in text
    assert 'id="two-scale-curve"' in text
    assert (tmp_path / "figures" / "two-trials.csv").exists()


def test_a_missing_figure_leaves_a_gap_that_says_what_to_run() -> None:
    gap = Figure("f", "Figure 9", "A caption.", missing="Not run yet: run thesis/x.yaml")
    table = Table("t", "A table", ["a"], [["1 < 2"]])
    text = render(Page("t", "", "", [], [], [Section("s", "S", [gap, table, "plain & simple"])]))
    assert "Not run yet: run thesis/x.yaml" in text
    assert "1 &lt; 2" in text
    assert "plain &amp; simple" in text


def test_shared_epochs_are_counted_as_saved(tmp_path: Path) -> None:
    config = plan_config()
    name, values, trial = config.configurations()[0]
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config), trial_event(0, name, trial, 0, Phase.PLAN, dict(values)))
        writer.append(*trial_lines(0, trial, 0, inherited=2))
    study = load(tmp_path / "s")
    assert epochs_cost(study) == {"trained": 1, "inherited": 2, "planned": 3, "wall_s": pytest.approx(0.6)}
    assert "sharing saved 67% of the epochs" in render(build([study])[0])


def test_durations_are_words() -> None:
    assert [duration(seconds) for seconds in (3, 600, 7200)] == ["3 s", "10 minutes", "2.0 hours"]
    assert slug("Figure 4.5: <x>") == "figure-4-5-x"


def test_trial_numbers_lead_to_their_runs_in_mlflow(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "s", plan_config())
    assert "experiments/7" not in render(build([load(folder)])[0])
    links = MlflowLinks(server="http://127.0.0.1:5000", experiment="7", runs={"study": "abc", "trial 0": "def"})
    (folder / LINKS_NAME).write_text(links.model_dump_json())
    text = render(build([load(folder)])[0])
    assert '<a href="http://127.0.0.1:5000/#/experiments/7/runs/def">0</a>' in text
    assert '<a href="http://127.0.0.1:5000/#/experiments/7/runs/abc">' in text
    assert "Numbers lead to MLflow&#39;s UI at http://127.0.0.1:5000" in text


@pytest.mark.parametrize("text", ["", "{", '{"server": "javascript:alert(1)", "experiment": "7", "runs": {}}'])
def test_a_damaged_links_file_is_no_link(tmp_path: Path, text: str) -> None:
    folder = write_plan(tmp_path / "s", plan_config())
    (folder / LINKS_NAME).write_text(text)
    assert "#/experiments" not in render(build([load(folder)])[0])


def test_of_equal_values_the_first_proposal_is_the_searchs_best(tmp_path: Path) -> None:
    study = load(write_search(tmp_path / "s", search_config(), 12))
    complete = study.trials["status"].eq("complete") & study.trials["phase"].eq("search")
    study.trials.loc[complete, "value"] = 0.75
    first = int(study.trials[complete]["number"].min())
    assert f"Its best value is 75.0% (trial {first}: " in " ".join(answer(study).sentences)
