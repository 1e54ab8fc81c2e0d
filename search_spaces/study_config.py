"""StudyConfig: a common trial, what varies around it, and how a study chooses."""

from __future__ import annotations

import itertools
import json
import math
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from search_spaces.base import Count, Frozen, Index, Positive, Seed
from search_spaces.ranges import Choice, FloatRange, IntRange, Options, Range, holds_range
from search_spaces.trial_config import TrialConfig
from search_spaces.words import suggestion


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands twice, and its trials would be the same run; list each once")
    return seeds


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_each_once)]
Values = dict[str, JsonValue]
MAX_POINTS = 100_000
"""Configurations of one study; more are a slip of the pen."""
_SHORT_NAMES = {
    "loss.scale.value": "s",
    "loss.lambda": "lambda",
    "split.train_classes": "C",
    "model.embedding_dim": "D",
}


class Configuration(NamedTuple):
    """One point of a study: its name for people, the values that make it differ, the trial that they give."""

    name: str
    values: Values
    trial: TrialConfig


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("holds a control character; write a name that fits on one line")
    return name


def _not_taken(name: str) -> str:
    """`name`, unless the folder that holds all studies keeps something else there (whatever the case of letters)."""
    if name.lower().startswith("mlflow.db") or name.lower() in ("mlartifacts", "report.html"):
        raise ValueError(f"{name} is no study's name: the home folder keeps MLflow's files or a page there; rename it")
    return name


def _overrides_beside_the_name(schema: dict[str, Any]) -> None:
    del schema["properties"]["overrides"]
    schema["additionalProperties"] = True


class Case(Frozen):
    """A named configuration: `name`, and overrides by dotted path beside it."""

    model_config = ConfigDict(json_schema_extra=_overrides_beside_the_name)

    name: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
    overrides: Values = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "overrides" in data:
            return data
        named = {"name": data["name"]} if "name" in data else {}
        return {**named, "overrides": {key: value for key, value in data.items() if key != "name"}}


class Random(Frozen):
    """Optuna's RandomSampler."""

    kind: Literal["random"] = "random"
    seed: Seed = 0


class Tpe(Frozen):
    """Optuna's TPESampler. startup_trials: proposals drawn at random first."""

    kind: Literal["tpe"] = "tpe"
    seed: Seed = 0
    startup_trials: Count = 10
    multivariate: bool = False


class Qmc(Frozen):
    """Optuna's QMCSampler, scrambled Sobol points; conditional parameters fall back to random draws."""

    kind: Literal["qmc"] = "qmc"
    seed: Seed = 0


class Gp(Frozen):
    """Optuna's GPSampler."""

    kind: Literal["gp"] = "gp"
    seed: Seed = 0
    startup_trials: Count = 10


class CmaEs(Frozen):
    """Optuna's CmaEsSampler; choices and conditional parameters fall back to random draws."""

    kind: Literal["cmaes"] = "cmaes"
    seed: Seed = 0
    startup_trials: Count = 1


class Grid(Frozen):
    """Every combination of the choices once, in the file's order; ranges must be lists."""

    kind: Literal["grid"] = "grid"


SamplerConfig = Annotated[Random | Tpe | Qmc | Gp | CmaEs | Grid, Field(discriminator="kind")]


class NoScheduler(Frozen):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class Asha(Frozen):
    """Asynchronous successive halving (Li et al. 2020) on the objective, by epochs_done.

    Rungs stand at grace_epochs * factor^k below the trial's epochs; at each, the best 1 / factor so far go on.
    mode: 'stop' ends the others there; 'promote' pauses them and resumes the best when their turn comes.
    """

    kind: Literal["asha"] = "asha"
    grace_epochs: Count = 1
    factor: Annotated[int, Field(ge=2)] = 3
    mode: Literal["stop", "promote"] = "stop"


def rungs_of(asha: Asha, epochs: int) -> tuple[int, ...]:
    """epochs_done at which the rungs of trials of `epochs` epochs stand."""
    rungs: tuple[int, ...] = ()
    rung = asha.grace_epochs
    while rung < epochs:
        rungs += (rung,)
        rung *= asha.factor
    return rungs


SchedulerConfig = Annotated[NoScheduler | Asha, Field(discriminator="kind")]


class Search(Frozen):
    """How a study chooses. A proposal trains once, on `seed`; the spread over seeds comes from `confirm`.

    start_from: points to try first, each a mapping of the `vary` paths. max_trials, max_hours: the budget; trials that
    run when the hours are spent finish. round_size: proposals made together before any of their results is heard
    (None: each as a slot frees). max_failures: proposals that may fail (crash or diverge) before the search gives up.
    determinism: 'strict' makes proposals, stopping epochs and results independent of how many trials run at once and of
    who is first: proposals come in whole rounds, and a rung decides when all that can reach it have, or have ended.
    """

    objective: Literal["val_recall_at_1"] = "val_recall_at_1"
    sampler: SamplerConfig = Tpe()
    seed: Seed = 0
    start_from: tuple[Values, ...] = ()
    scheduler: SchedulerConfig = NoScheduler()
    max_trials: Count
    max_hours: Positive | None = None
    round_size: Count | None = None
    max_failures: Index = 10
    determinism: Literal["free", "strict"] = "free"


class Confirm(Frozen):
    """The search's `best` configurations, run again on fresh seeds with test classes, beside named baselines."""

    best: Count = 3
    seeds: Seeds
    baselines: tuple[Case, ...] = ()


def _lists_are_choices(data: Any) -> Any:
    """A bare list is a choice. Lists become tuples: what a validator returns counts as Python, not as JSON."""
    if not isinstance(data, dict):
        return data
    spans: dict[str, Any] = {}
    for path, span in data.items():
        options = span.get("options") if isinstance(span, dict) else span
        if isinstance(options, list):
            spans[path] = {**(span if isinstance(span, dict) else {"kind": "choice"}), "options": tuple(options)}
        else:
            spans[path] = span
    return spans


class StudyConfig(Frozen):
    """A study file.

    question: what the study answers, printed on its report. trial: what all trials share. Then either a fixed plan
    (`cases` and/or `vary` over lists, every configuration on all `seeds`) or a search (`vary`, `search`, `confirm`).
    inherit_from: names of earlier studies in the same home whose kept states this one may start from. keep_epochs:
    epochs_done after which every trial's state is kept for such studies.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"), AfterValidator(_not_taken)]
    question: str = ""
    trial: TrialConfig
    seeds: Seeds = (0,)
    vary: Annotated[
        dict[str, Range], BeforeValidator(_lists_are_choices, json_schema_input_type=dict[str, Range | Options])
    ] = {}
    cases: tuple[Case, ...] = ()
    search: Search | None = None
    confirm: Confirm | None = None
    inherit_from: tuple[str, ...] = ()
    keep_epochs: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := _problems(self):
            raise ValueError("\n".join(problems))
        return self

    def trial_with(self, values: Values) -> TrialConfig:
        """The common trial with `values` set at their dotted paths.

        Raises: pydantic.ValidationError if the result is no valid trial; KeyError (with a message) for a path that
        leads through a field the trial does not have.
        """
        if self.search is not None:  # its proposals come once each, and there is no end to them
            return self._make(values)
        spelled = json.dumps(values, sort_keys=True)
        if spelled not in self._made:
            self._made[spelled] = self._make(values)
        return self._made[spelled]

    @cached_property
    def _made(self) -> dict[str, TrialConfig]:
        """Trials made before: a plan of thousands is checked, counted and run from the same ones."""
        return {}

    def _make(self, values: Values) -> TrialConfig:
        raw: dict[str, Any] = self.trial.model_dump(mode="json", by_alias=True)
        for path, value in sorted(values.items(), key=lambda item: item[0].count(".")):
            *parents, last = path.split(".")
            node = raw
            for depth, parent in enumerate(parents):
                where = ".".join(parents[: depth + 1])
                if parent not in node:
                    raise KeyError(f"{path}: the trial has no field {where}{suggestion(parent, node)}")
                if not isinstance(node[parent], dict):
                    held = json.dumps(node[parent])
                    raise KeyError(f"{path}: {where} is {held}, which has no fields; name {where} itself")
                node = node[parent]
            node[last] = value
        return TrialConfig.model_validate_json(json.dumps(raw))

    def points(self) -> list[tuple[str, Values]]:
        """Name and values of each point of the fixed plan: cases crossed with the grid of `vary`, in file order."""
        named: list[tuple[str, Values]] = [(case.name, dict(case.overrides)) for case in self.cases] or [("", {})]
        grids: list[tuple[str, Values]] = [("", {})]
        choices = {path: span for path, span in self.vary.items() if isinstance(span, Choice)}
        if choices:
            axes = [
                [(path, option, word) for option, word in zip(choice.options, _words(path, choice), strict=True)]
                for path, choice in choices.items()
            ]
            grids = [
                (", ".join(word for _, _, word in picks), {path: option for path, option, _ in picks})
                for picks in itertools.product(*axes)
            ]
        return [
            (", ".join(word for word in (case_name, grid_name) if word) or "the trial", {**case_values, **grid_values})
            for case_name, case_values in named
            for grid_name, grid_values in grids
        ]

    def configurations(self) -> list[Configuration]:
        """The fixed plan, resolved. Raises: as trial_with."""
        return [Configuration(name, values, self.trial_with(values)) for name, values in self.points()]


def short_name(path: str) -> str:
    """What a person calls the parameter at dotted `path`: s, C, D, lambda, or its last part."""
    return _SHORT_NAMES.get(path, path.rsplit(".", 1)[-1])


def label_of(path: str, value: object) -> str:
    """A parameter and its value as a person writes them: s=20, gamma=0.1."""
    return f"{short_name(path)}={_word(value)}"


def _word(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(path: str, choice: Choice) -> list[str]:
    """What a person calls each option at `path`; in full where four digits would give two of them one name."""
    words = [label_of(path, label) for label in choice.labels]
    if len(set(words)) == len(words):
        return words
    return [f"{short_name(path)}={label}" for label in choice.labels]


def _problems(study: StudyConfig) -> list[str]:
    """What is wrong between the fields of `study`, in words, each with its mend."""
    problems = []
    problems += [f"cases: two are named {name!r}; rename one" for name in _twice(study.cases)]
    points = math.prod(len(span.options) for span in study.vary.values() if isinstance(span, Choice))
    points *= max(1, len(study.cases))
    if points > MAX_POINTS and (study.search is None or isinstance(study.search.sampler, Grid)):
        problems.append(f"vary: makes {points} configurations, more than {MAX_POINTS}; list fewer values, or search")
    paths = list(study.vary)
    for case in study.cases:
        for path, other in itertools.product(study.vary, case.overrides):
            if overlap(path, other):
                problems.append(f"cases: {case.name!r} sets {other}, which vary.{path} sets too; drop one")
    for path, other in itertools.permutations(paths, 2):
        if other.startswith(f"{path}."):
            problems.append(f"vary.{other}: lies inside vary.{path}; put its range into the options there")
    if study.search is None:
        if study.confirm is not None:
            problems.append("confirm: needs a search whose winners it runs again; add search, or list seeds instead")
        for path, span in study.vary.items():
            if isinstance(span, FloatRange | IntRange) or holds_range(list(span.options)):
                problems.append(f"vary.{path}: a range needs a search that draws from it; list values, or add search")
        return problems
    if study.cases:
        problems.append("cases: a search proposes its own configurations; move them to confirm.baselines")
    if study.seeds != (0,):
        problems.append("seeds: a search trains each proposal on search.seed; put fresh seeds into confirm.seeds")
    if not study.vary:
        problems.append("vary: empty, so the search has nothing to propose; give it ranges by dotted path")
    if not study.trial.split.val_classes:
        problems.append("trial.split.val_classes: 0, but a search must not choose on test classes; hold some out")
    if isinstance(study.search.sampler, Grid) and any(
        not isinstance(span, Choice) or holds_range(list(span.options)) for span in study.vary.values()
    ):
        problems.append("search.sampler: grid needs lists in vary, not ranges; list values or take random, tpe, gp")
    for index, point in enumerate(study.search.start_from):
        for path, value in point.items():
            where = f"search.start_from.{index}"
            if path not in study.vary:
                problems.append(f"{where}: {path} is not varied{suggestion(path, study.vary)}")
            elif not study.vary[path].allows(value):
                problems.append(f"{where}: {path}: {json.dumps(value)} is not in its range in vary; change one")
    if study.search.determinism == "strict":
        problems += _strict_problems(study.search)
    scheduler = study.search.scheduler
    if isinstance(scheduler, Asha) and scheduler.grace_epochs >= study.trial.epochs:
        problems.append(
            f"search.scheduler.grace_epochs: {scheduler.grace_epochs} is not below epochs={study.trial.epochs}, so "
            "ASHA never stops a trial; lower it or raise epochs"
        )
    if study.confirm is not None:
        problems += [
            f"confirm.baselines: two are named {name!r}; rename one" for name in _twice(study.confirm.baselines)
        ]
        if study.search.seed in study.confirm.seeds:
            problems.append(f"confirm.seeds: {study.search.seed} is search.seed; winners need seeds that chose nothing")
        if not study.trial.split.test_classes:
            problems.append("confirm: split.test_classes is 0, so winners cannot be measured on new classes; raise it")
    return problems


def _strict_problems(search: Search) -> list[str]:
    problems = []
    if search.round_size is None:
        problems.append("search.round_size: missing, but strict determinism proposes in rounds; add it")
    elif search.max_trials % search.round_size:
        problems.append(
            f"search.max_trials: {search.max_trials} is no multiple of round_size={search.round_size}, but strict "
            "determinism proposes whole rounds; change one"
        )
    if search.max_hours is not None:
        problems.append(
            "search.max_hours: when hours are spent depends on the machine's load, so the search would not be strictly "
            "deterministic; drop it or set determinism: free"
        )
    return problems


def _twice(cases: tuple[Case, ...]) -> list[str]:
    names = [case.name for case in cases]
    return sorted({name for name in names if names.count(name) > 1})


def overlap(path: str, other: str) -> bool:
    """Whether setting one dotted path touches what the other sets."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
