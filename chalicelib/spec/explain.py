"""Says in plain words, with path, hint and line, what does not fit the schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from chalicelib.errors import Problem
from chalicelib.spec.document import Document, KeyPath, dotted
from chalicelib.spec.schema import Section
from chalicelib.spec.values import nearest

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a map",
    "model_type": "a map",
    "list_type": "a list",
}

_KINDS = (
    (bool, "true or false"),  # before int, which it is in Python
    (int, "a number"),
    (float, "a number with a point"),
    (str, "text"),
    (list, "a list"),
    (dict, "a map"),
)

_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a known key",
    "value_error": "{error}",
    "greater_than_equal": "must be {ge:g} or more, not {given}",
    "greater_than": "must be more than {gt:g}, not {given}",
    "less_than_equal": "must be {le:g} or less, not {given}",
    "less_than": "must be less than {lt:g}, not {given}",
    "finite_number": "must be a finite number",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "is not of the right form: {given}",
}


def without_wrong_keys(data: Any, section: type[Section], document: Document) -> tuple[Any, list[Problem]]:
    """`data` without keys that are unknown to `section` and the sections within it, or have no value; and the problems."""
    problems: list[Problem] = []
    elsewhere = dict(sorted(_all_keys(section, ()), key=lambda pair: -len(pair[1])))  # of several, the outermost stays

    def kept(value: Any, section: type[Section] | None, path: KeyPath) -> Any:
        if section is not None and isinstance(value, list):
            return [kept(item, section, (*path, index)) for index, item in enumerate(value)]
        if section is None or not isinstance(value, dict):
            return value
        right = {}
        for key, item in value.items():
            field = section.model_fields.get(key)
            at = (*path, key)
            if field is None:
                unknown = ("is not a known key", _hint(key, section, elsewhere))
                problems.append(document.problem(at, *section.refused.get(key, unknown)))
            elif item is None and key not in section.may_be_empty:
                problems.append(document.problem(at, "has no value", "write one, or remove the line"))
            else:
                right[key] = kept(item, _section_of(field.annotation), at)
        return right

    return kept(data, section, ()), problems


def _hint(key: str, section: type[Section], elsewhere: dict[str, KeyPath]) -> str:
    if key in elsewhere:
        return f"did you mean {dotted(elsewhere[key])}?"
    if hint := nearest(key, section.model_fields):
        return hint
    return f"known keys here: {', '.join(section.model_fields)}"


def _all_keys(section: type[Section], path: KeyPath) -> Iterator[tuple[str, KeyPath]]:
    for key, field in section.model_fields.items():
        if inner := _section_of(field.annotation):
            yield from _all_keys(inner, (*path, key))
        yield key, (*path, key)


def _section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds: itself, one of its alternatives, or what its list is of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, list):
        return next(filter(None, map(_section_of, get_args(annotation))), None)
    return None


def problems(error: ValidationError, data: dict[str, Any], document: Document) -> list[Problem]:
    """One problem for each place that does not fit, whatever number of alternatives it fails to fit.

    `data` is what was validated: `document` without unknown keys and with variables replaced.
    """
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for each in error.errors(include_url=False):
        by_path.setdefault(_path(each, data), []).append(each)
    ancestors = {path[:length] for path in by_path for length in range(len(path))}
    found: list[Problem] = []
    for path, errors in by_path.items():
        specific = [each for each in errors if not _is_about_type(each)]
        if specific:
            found += _described(specific, path, document)
        elif path not in ancestors:  # what is wrong deeper belongs to the alternative that was meant
            found.append(document.problem(path, *_wrong_type(errors)))
    return found


def _wrong_type(errors: list[ErrorDetails]) -> tuple[str, str]:
    given = errors[0]["input"]
    wanted = list(dict.fromkeys(_WANTED.get(each["type"]) or " or ".join(_words(each)) for each in errors))
    if "a number" in wanted and "a whole number" in wanted:
        wanted.remove("a whole number")
    if isinstance(given, int) and not isinstance(given, bool) and ("a number" in wanted or "a whole number" in wanted):
        return "is too large", ""
    return f"must be {' or '.join(wanted)}, not {_kind(given)}", _quoting(given, wanted)


def _words(literal_error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", literal_error["ctx"]["expected"])


def _path(error: ErrorDetails, data: Any) -> KeyPath:
    """Where an error is in the file. Pydantic's own location also names alternatives, which no file has."""
    path: KeyPath = ()
    node = data
    for position, step in enumerate(error["loc"], start=1):
        if isinstance(node, dict) and step in node:
            node = node[str(step)]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        elif position < len(error["loc"]) or not isinstance(node, dict) or not _is_absent_key(error["type"], step):
            continue
        path = (*path, step)
    return path


def _is_absent_key(error_type: str, step: str | int) -> bool:
    """Whether an error's last step, not found in the data, is a key that was left out. Alternatives have brackets."""
    return error_type == "missing" or (error_type == "rules" and str(step).isidentifier())


def _is_about_type(error: ErrorDetails) -> bool:
    return error["type"] in _WANTED or (error["type"] == "literal_error" and not isinstance(error["input"], str))


def _described(errors: Iterable[ErrorDetails], path: KeyPath, document: Document) -> list[Problem]:
    found: list[Problem] = []
    for error in errors:
        if error["type"] == "rules":
            found += [document.problem((*path, *rule.at), rule.reason, rule.hint) for rule in error["ctx"]["rules"]]
        else:
            # As written, because a replaced variable may be a secret.
            given = document.spellings.get(path, str(error["input"]))
            found.append(document.problem(path, *_reason_and_hint(error, given)))
    return list(dict.fromkeys(found))


def _reason_and_hint(error: ErrorDetails, given: str) -> tuple[str, str]:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        words = _words(error)
        return f"must be {' or '.join(words)}, not {_short(given)}", nearest(given, words)
    reason = _REASONS.get(error["type"], error["msg"])
    return reason.format(given=_short(given), **context), ""


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:36]}..."


def _kind(value: Any) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(value, type_)), "nothing")


def _quoting(given: Any, wanted: list[str]) -> str:
    if isinstance(given, bool) and "text" in wanted:
        return "YAML reads unquoted yes, no, on and off as true or false: put it in quotes"
    if isinstance(given, int | float) and wanted == ["text"]:
        return "put it in quotes"
    if isinstance(given, str) and "number" in " ".join(wanted):
        return "write plain digits without quotes, such as 1000 or 2.5"
    return ""
