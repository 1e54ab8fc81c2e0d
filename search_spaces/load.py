"""YAML file -> StudyConfig, with one clear line per fault."""

from __future__ import annotations

import difflib
import json
import re
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.study_config import StudyConfig, Values
from search_spaces.trial_config import TrialConfig

MAX_BYTES = 1_000_000
MAX_DEPTH = 50


class ConfigError(Exception):
    """A study file, or what was asked of it, is wrong. `problems`: one line each: where, what, the mend."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: 1e-3 is a number, NO a string, 1:30 a string; no aliases, no duplicate keys."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.get_mark()
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; write the value out", problem_mark=mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="keys are plain words", problem_mark=key_node.start_mark)
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key_node.value!r} stands twice; keep one", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


def load_study(path: Path) -> StudyConfig:
    """The study that `path` describes; its name is the file's stem where the file gives none.

    Raises: ConfigError with every problem at once.
    """
    return parse_study(read_yaml(path), path.stem, str(path))


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file. Raises: ConfigError with line and column."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; a study file is a page long")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML study file") from error
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{place}: {problem}; mend the YAML there") from error
    finally:
        loader.dispose()


def parse_study(raw: Any, default_name: str, source: str) -> StudyConfig:
    """`raw`, the values of a study file called `source` in messages, as StudyConfig. Raises: ConfigError."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: holds {type(raw).__name__}, not a mapping of fields; start with `trial:`")
    raw = {"name": default_name, **raw}
    try:
        study = StudyConfig.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(*(f"{source}: {line}" for line in explain(error, StudyConfig))) from error
    problems = list(_point_problems(study))
    if problems:
        raise ConfigError(*(f"{source}: {line}" for line in problems))
    return study


def _point_problems(study: StudyConfig) -> list[str]:
    """Problems of the trials that the file's points give: those of the grid, the cases, the baselines."""
    points: list[tuple[str, Values]] = []
    if study.search is None:
        points = study.points()
    elif study.confirm is not None:
        points = [(f"confirm.baselines {case.name!r}", dict(case.overrides)) for case in study.confirm.baselines]
    problems: list[str] = []
    resolved: dict[TrialConfig, str] = {}
    for name, values in points:
        try:
            trial = study.trial_with(values)
        except KeyError as error:
            problems.append(f"{name}: {error.args[0]}")
        except ValidationError as error:
            problems += [f"{name}: {line}" for line in explain(error, TrialConfig)]
        else:
            if trial in resolved:
                problems.append(f"{name}: the same trial as {resolved[trial]!r}; drop one")
            resolved.setdefault(trial, name)
    return list(dict.fromkeys(problems))


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per fault in `error`, raised by `model`: the path as the file spells it, what is wrong, the mend."""
    lines = []
    for fault in error.errors(include_url=False):
        path, parent = _locate(model, fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        name = str(fault["loc"][-1]) if fault["loc"] else ""
        match fault["type"]:
            case "extra_forbidden":
                message = f"unknown field{_suggestion(name, _field_names(parent))}"
            case "missing":
                message = "missing; add it"
            case "union_tag_not_found":
                message = f"has no `kind`; choose one of {fault['ctx'].get('discriminator', 'kind')} in the schema"
                kinds = _kinds(model, fault["loc"])
                if kinds:
                    message = f"has no `kind`; give one of {', '.join(kinds)}"
            case "union_tag_invalid":
                kinds = [kind.strip("' ") for kind in fault["ctx"]["expected_tags"].split(",")]
                message = f"unknown kind {fault['ctx']['tag']!r}{_suggestion(fault['ctx']['tag'], kinds)}"
            case "value_error":
                pass
            case _:
                shown = json.dumps(fault["input"], default=str)
                message = f"{message[0].lower()}{message[1:]}, got {shown if len(shown) <= 60 else shown[:57] + '...'}"
        join = "." if fault["type"] == "value_error" and re.match(r"[a-z_.]+: ", message) else ": "
        lines += [f"{path}{join}{line}" if path else line for line in message.splitlines()]
    return list(dict.fromkeys(lines))


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def _field_names(model: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _members(annotation: Any) -> list[Any]:
    """The plain types that an annotation allows, Annotated and unions taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [member for part in get_args(annotation) if part is not type(None) for member in _members(part)]
    return [annotation]


def _kind_of(member: Any) -> str | None:
    field = member.model_fields.get("kind") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return get_args(field.annotation)[0] if field is not None and get_origin(field.annotation) is Literal else None


def _kinds(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    members: list[Any] = [model]
    for part in loc:
        members = _step(members, part)[0]
    return [kind for member in members if (kind := _kind_of(member))]


def _step(members: list[Any], part: int | str) -> tuple[list[Any], bool]:
    """The types one step down at `part`, and whether `part` is a key of the file (not a union's tag)."""
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part in (name, field.alias) and len(members) == 1:
                    return _members(field.annotation), True
    tagged = [member for member in members if _kind_of(member) == part]
    if tagged and len(members) > 1:
        return tagged, False
    for member in members:
        args = get_args(member)
        if get_origin(member) is dict and args:
            return _members(args[1]), True
        if get_origin(member) is tuple and isinstance(part, int):
            return _members(args[0]), True
    return [], True


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """`loc` as the dotted path that the file spells, and the model that its last part belongs to."""
    members: list[Any] = [model]
    parent: list[Any] = members
    words = []
    for part in loc:
        parent = members
        members, spelled = _step(members, part)
        if spelled:
            words.append(str(part))
    owner = parent[0] if len(parent) == 1 and isinstance(parent[0], type) and issubclass(parent[0], BaseModel) else None
    return ".".join(words), owner


def schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudyConfig.model_json_schema(by_alias=True)}
