"""YAML file -> StudyConfig, with one clear line per fault."""

from __future__ import annotations

import json
import re
import types
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from search_spaces.ranges import Choice, FloatRange, IntRange
from search_spaces.samples import sample_points
from search_spaces.study_config import Grid, StudyConfig, Values, overlap
from search_spaces.trial_config import TrialConfig
from search_spaces.words import suggestion

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
_PLAIN = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
_RANGES: dict[str, type[FloatRange | IntRange | Choice]] = {"float": FloatRange, "int": IntRange, "choice": Choice}


class ConfigError(Exception):
    """A study file, or what was asked of it, is wrong. `problems`: one line each: where, what, the mend."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(_one_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


def _one_line(text: str) -> str:
    """`text` with line ends, terminal codes and the like spelled out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


_PASSWORD = (
    "holds a URI with a password, and this text goes into ledger, report and MLflow; take it out and set PGPASSWORD or "
    "MLFLOW_TRACKING_PASSWORD in the environment, or a line in ~/.pgpass"
)


def _holds_password(text: str) -> bool:
    """Whether a word of `text` is, or may be, a URI with a password: scheme://user:password@host."""
    for word in unicodedata.normalize("NFKC", text).split():
        user = re.search(r"://[^:@\"'<>]*:", word)
        if user and "@" in word[user.end() :]:
            return True
    return False


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: 1e-3 is a number; NO, 1:30 and 010 are strings. No aliases, tags or duplicate keys."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.get_mark()
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read; write the value out", problem_mark=mark)
        event: Any = self.current_event  # which check_event has just looked at
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="tags (!name) are not read; write the plain value", problem_mark=mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            problem = ""
            if key_node.tag != "tag:yaml.org,2002:str" or not key_node.value.isprintable():
                problem = "this key is no word; fields are named by words"
            elif key_node.value == "<<":
                problem = "merge keys (<<) are not read; write the fields out"
            elif key_node.value in seen:
                problem = f"{key_node.value!r} stands twice; keep one"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            problem = "half of a surrogate pair is no letter; write the letter itself"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if _holds_password(value):  # spelled with escapes, which the look at the file's text does not see
            raise yaml.MarkedYAMLError(problem=_PASSWORD, problem_mark=node.start_mark)
        return value


_INT = r"[-+]?(0|[1-9][0-9]{0,399})"
_FLOAT = r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", rf"{_FLOAT}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
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
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; a study file is a page long")
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML study file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if _holds_password(line):  # before anything that repeats what the file says; comments go into the ledger too
            raise ConfigError(f"{path}:{number}: {_PASSWORD}")
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{number}: holds the control character {error.character!r}; remove it") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = " ".join(str(error.problem).split())
        raise ConfigError(f"{place}: {problem}{'' if ';' in problem else '; mend the YAML there'}") from error


def parse_study(raw: Any, default_name: str, source: str) -> StudyConfig:
    """`raw`, the values of a study file called `source` in messages, as StudyConfig. Raises: ConfigError."""
    if not isinstance(raw, dict):
        held = "is empty" if raw is None else f"holds {_PLAIN.get(type(raw), 'a value')}, not a mapping of fields"
        raise ConfigError(f"{source}: {held}; start with `trial:`")
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
    """Problems of the trials that `study` can make, each once, by field or by the configurations that have it."""
    found: dict[str, list[str]] = {}
    if study.search is None or isinstance(study.search.sampler, Grid):
        _try_plan(study, study.points(), found)
    elif problems := _range_problems(study):
        return problems
    else:
        _try_samples(study, found)
    if study.confirm is not None:
        baselines = [(case.name, dict(case.overrides)) for case in study.confirm.baselines]
        _try_plan(study, [(f"confirm.baselines {name!r}", values) for name, values in baselines], found)
    return [f"{_among(names)}: {line}" if names[0] else line for line, names in found.items()]


def _among(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _range_problems(study: StudyConfig) -> list[str]:
    """What is wrong with the ranges inside the options of `study.vary`."""
    problems: list[str] = []

    def look(value: Any, path: str) -> None:
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in _RANGES:
            model = _RANGES[kind]
            try:
                model.model_validate_json(json.dumps(value))
            except ValidationError as error:
                problems.extend(f"{path}: {line}" for line in explain(error, model))
                return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, dict | list):
                look(item, f"{path}.{key}")

    for path, span in study.vary.items():
        if isinstance(span, Choice):
            look(list(span.options), f"vary.{path}")
    return problems


def _try_plan(study: StudyConfig, points: list[tuple[str, Values]], found: dict[str, list[str]]) -> None:
    """Make every trial of a plan; `found` gains each problem with the names of the points that have it."""
    resolved: dict[TrialConfig, str] = {}
    for name, values in points:
        trial, faults = _try(study, values)
        for _, line in faults:
            varied = _under(line, study.vary)
            found.setdefault(f"vary.{line}" if varied else line, []).append("" if varied else name)
        if trial in resolved:
            found.setdefault(f"the same trial as {resolved[trial]!r}; drop one", []).append(name)
        elif trial is not None:
            resolved[trial] = name


def _try_samples(study: StudyConfig, found: dict[str, list[str]]) -> None:
    """Make a search's trials at the ends of its ranges.

    A combination that is no trial is a failed proposal, later; but what is wrong by itself, or everywhere, is a fault.
    """
    points = sample_points(study)
    tried = [_try(study, values) for values in points]
    none_valid = all(trial is None for trial, _ in tried)
    for trial, faults in tried:
        for combined, line in faults:
            if none_valid or not combined:
                found.setdefault(f"vary.{line}" if _under(line, study.vary) else f"vary: {line}", [""])
        if trial is not None and not trial.split.val_classes:
            line = "vary.split.val_classes: 0, but a search must not choose on test classes; hold some out"
            found.setdefault(line, [""])


def _try(study: StudyConfig, values: Values) -> tuple[TrialConfig | None, list[tuple[bool, str]]]:
    """The trial that `values` make, or what is wrong: whether only the combination of fields is, and a line."""
    try:
        trial = study.trial_with(values)
    except KeyError as error:
        return None, [(False, str(error.args[0]))]
    except ValidationError as error:
        return None, _faults(error, TrialConfig)
    if trial.compute.replace(precision="float32") != study.trial.compute.replace(precision="float32"):
        return None, [(False, "compute: all trials of a study get the same threads and device; set them in trial")]
    return trial, []


def _under(line: str, paths: Iterable[str]) -> bool:
    """Whether the field that `line` begins with lies at or below one of `paths`."""
    field = line.split(":", 1)[0]
    return any(overlap(field, path) and len(field) >= len(path) for path in paths)


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per fault in `error`, raised by `model`: the path as the file spells it, what is wrong, the mend."""
    return [line for _, line in _faults(error, model)]


def _faults(error: ValidationError, model: type[BaseModel]) -> list[tuple[bool, str]]:
    """As explain, and whether a fault lies in a combination of fields, each of them valid by itself."""
    found: dict[str, bool] = {}
    faults = error.errors(include_url=False)
    places = [fault["loc"] for fault in faults]
    for fault in faults:
        loc = fault["loc"]
        if fault["type"] == "too_short" and any(len(loc) < len(other) and other[: len(loc)] == loc for other in places):
            continue  # short only because pydantic left out what is faulty itself
        if fault["type"] == "default_factory_not_called":
            continue  # a default that waits for a field that is faulty itself
        path = _locate(model, loc)[0]
        combined = fault["type"] == "value_error"
        for line in filter(None, _message(fault, model).splitlines()):
            join = "." if combined and re.match(r"[a-z0-9_.]+: ", line) else ": "
            found.setdefault(f"{path}{join}{line}" if path else line, combined)
    return [(combined, line) for line, combined in found.items()]


def _message(fault: Any, model: type[BaseModel]) -> str:
    """What is wrong, and the mend, for one of pydantic's faults."""
    loc, given, context = fault["loc"], fault["input"], fault.get("ctx", {})
    shown = json.dumps(given, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    match fault["type"]:
        case "extra_forbidden":
            parent = _locate(model, loc)[1]
            return f"unknown field{suggestion(str(loc[-1]), _field_names(parent))}"
        case "missing":
            return "missing; add it"
        case "union_tag_not_found":
            return f"has no `kind`; give one of {', '.join(_kinds(model, loc))}"
        case "union_tag_invalid":
            kinds = [kind.strip("' ") for kind in context["expected_tags"].split(",")]
            return f"unknown kind {context['tag']!r}{suggestion(context['tag'], kinds)}"
        case "value_error":
            return str(fault["msg"]).removeprefix("Value error, ")
        case "too_short":
            return f"holds {context['actual_length']} values, needs at least {context['min_length']}; list more"
        case "too_long":
            return f"holds {context['actual_length']} values, takes at most {context['max_length']}; list fewer"
        case "string_pattern_mismatch" if loc[-1] == "sha256":
            return f"must be 64 digits of 0 to 9 and a to f, got {shown}; `sha256sum FILE` prints them"
        case "string_pattern_mismatch":
            return (
                f"must be 1 to 80 letters, digits, '_', '.' or '-', the first no sign, got {shown}; give another name"
            )
        case "tuple_type":
            return f"must be a list, got {shown}; put it in [ ]"
        case "model_type" | "model_attributes_type" | "dict_type":
            kinds = _kinds(model, loc)
            mend = f"; write {{kind: {given}}}" if given in kinds else ""
            return f"must be a {'list or a range' if kinds == [*_RANGES] else 'mapping of fields'}, got {shown}{mend}"
        case "int_type" | "int_from_float" | "float_type":
            quoted = isinstance(given, str) and re.fullmatch(f"{_INT}|{_FLOAT}", given)
            kind = "number" if fault["type"] == "float_type" else "whole number"
            return f"must be a {kind}, got {shown}{'; take the quotes off' if quoted else ''}"
        case "bool_type":
            return f"must be true or false, got {shown}"
        case "string_type":
            return f"must be text, got {shown}; put it in quotes"
        case "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            return f"unknown value {shown}{suggestion(str(given), known)}"
        case _:
            message = str(fault["msg"]).replace("Input should be", "must be", 1)
            return f"{message[0].lower()}{message[1:]}, got {shown}"


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


def _kinds_of(member: Any) -> tuple[str, ...]:
    field = member.model_fields.get("kind") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _kinds(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    members: list[Any] = [model]
    for part in loc:
        members = _step(members, part)[0]
    return [kind for member in members for kind in _kinds_of(member)]


def _step(members: list[Any], part: int | str) -> tuple[list[Any], bool]:
    """The types one step down at `part`, and whether `part` is a key of the file (not a union's tag)."""
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            for name, field in member.model_fields.items():
                if part in (name, field.alias) and len(members) == 1:
                    return _members(field.annotation), True
    tagged = [member for member in members if part in _kinds_of(member)]
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
    """The JSON schema of a study file, for editors. The name is the file's where none is given."""
    found = StudyConfig.model_json_schema(by_alias=True)
    found["required"].remove("name")
    _require_kinds(found, found["$defs"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _require_kinds(node: Any, definitions: dict[str, Any]) -> None:
    """Every member of a tagged union needs its tag, which as a field of a type has a default."""
    if isinstance(node, dict):
        for reference in node.get("discriminator", {}).get("mapping", {}).values():
            member = definitions[reference.rsplit("/", 1)[-1]]
            member["required"] = sorted({"kind", *member.get("required", ())})
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _require_kinds(item, definitions)
