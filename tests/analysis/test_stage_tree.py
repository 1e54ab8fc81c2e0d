from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis import load
from analysis.figures import stage_tree
from analysis.load import Study
from analysis.report import build
from benchmarks.made_up import plan_config, study_event, trial_event, trial_lines
from study.ledger.write import LedgerWriter
from study.records import Event, Phase, StartEvent, Status


def branching(folder: Path, branches: list[tuple[int, int | None, str]], statuses: dict[int, Status]) -> Study:
    """A study of 5-epoch trials: (epochs inherited, from which trial, of which study) each; all of seed 0."""
    config = plan_config()
    name, values, trial = config.configurations()[0]
    trial = trial.replace(epochs=5)
    with LedgerWriter(folder) as writer:
        writer.append(study_event(config))
        for number, (inherited, parent, foreign) in enumerate(branches):
            writer.append(trial_event(number, f"{name} {number}", trial, 0, Phase.PLAN, dict(values)))
            status = statuses.get(number, Status.COMPLETE)
            reached = 5 if status is Status.COMPLETE else 3
            lines: list[Event] = trial_lines(
                number, trial, 0, inherited=inherited, epochs=reached, status=status, reason="lost"
            )
            lines[0] = StartEvent(
                at=lines[0].at,
                number=number,
                attempt=1,
                ray_trial="r",
                from_epochs=inherited,
                from_trial=parent,
                from_study=foreign,
            )
            writer.append(*lines)
    return load(folder)


def test_trials_stand_below_the_one_they_branched_from(tmp_path: Path) -> None:
    branches = [(0, None, ""), (0, None, ""), (3, 0, ""), (2, 0, ""), (4, 2, ""), (2, 7, "earlier")]
    frame = stage_tree.points(branching(tmp_path / "s", branches, {}))
    assert frame["number"].tolist() == [0, 3, 2, 4, 1, 5]
    assert frame["trunk"].tolist() == [0, 0, 0, 0, 1, 5]
    assert frame["trained"].tolist() == [5, 3, 2, 1, 5, 3]
    assert (frame["inherited"] + frame["trained"] == frame["asked"]).all()
    assert "earlier study (earlier)" in stage_tree.caption(frame)
    drawn = stage_tree.draw(frame)
    solid = next(trace for trace in drawn.data if trace.name == "trained")
    assert sum(solid.x) == 19
    assert list(solid.base) == [0, 2, 3, 4, 0, 2]
    assert list(solid.y) == sorted(solid.y, reverse=True)


def test_a_restart_is_no_branch_and_lost_trials_ask_for_more_than_they_have(tmp_path: Path) -> None:
    study = branching(tmp_path / "s", [(0, None, ""), (2, 0, "")], {1: Status.PRUNED})
    study.record.trials[0].starts.append(
        StartEvent(at=0, number=0, attempt=2, ray_trial="r", from_epochs=2, from_trial=0)
    )
    frame = stage_tree.points(study).set_index("number")
    assert frame["parent"].tolist() == [-1, 0]
    assert frame.loc[1, ["inherited", "trained", "asked"]].tolist() == [2, 1, 5]
    assert {"asked, not run", "stopped early"} <= {trace.name for trace in stage_tree.draw(frame.reset_index()).data}
    cost = next(section for section in build([study])[0].sections if section.id == "cost")
    assert str(cost.blocks[0]).startswith("6 epochs trained of 10 asked")
    assert "Not run: 2 epochs of 1 pruned trial." in str(cost.blocks[0])


def test_many_trials_leave_the_first_seed() -> None:
    rows = [
        {"number": 2 * place + seed, "configuration": f"c{place}", "seed": seed, "status": "complete"}
        for place in range(70)
        for seed in (4, 5)
    ]
    frame = pd.DataFrame(rows).assign(
        trunk=lambda rows: rows["number"], parent=-1, parent_study="", branch=0, inherited=0, trained=3, asked=3
    )
    assert set(stage_tree.shown(frame)["seed"]) == {4}
    assert "the first 60 of 70 trials of seed 4 only; the CSV has all 140" in stage_tree.caption(frame)
    assert len(stage_tree.draw(frame).layout.yaxis.ticktext) == 60
