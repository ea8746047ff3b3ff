"""YAML text to plain data, remembering on which line everything stands.

The reader is PyYAML's safe one with four differences, each against silent surprises: a key given twice is refused;
keys are always text (`on:` stays "on"); octal, sexagesimal and date notations of YAML 1.1 are left as text
(`22:22` is not 1342); and size, depth and the work aliases can cause are bounded. The pure Python parser is used
on purpose: libyaml's ends the process with a segmentation fault on deep nesting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from chalicelib.errors import Problem, SpecError

KeyPath: TypeAlias = tuple[str | int, ...]

# What the control plane keeps of a version, so that `plan` refuses what `up` would.
MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_INTEGER_BITS = 64  # every bound in the schema is lower; Python cannot write one of 15,000 as text
MAX_NODES = 5_000  # after aliases are expanded; the largest real service file has a few hundred

_YAML = "tag:yaml.org,2002:"
_MERGE = _YAML + "merge"


def is_portable(text: str) -> bool:
    """Whether environments, files and JSON can carry it: neither NUL nor half a surrogate pair."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def dotted(path: KeyPath) -> str:
    """`("resources", "any_of", 0, "ports")` as `resources.any_of[0].ports`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """What the user wrote. `lines` and `spellings` are keyed by path; lines are 1-based."""

    data: dict[str, Any]
    lines: dict[KeyPath, int]
    spellings: dict[KeyPath, str]  # of every scalar, as written: `3.10` where data has 3.1
    problems: tuple[Problem, ...]  # keys given twice and values that are not plain

    def problem(self, path: KeyPath, reason: str, hint: str = "") -> Problem:
        """A problem at `path`, on the line of its nearest ancestor that was written."""
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        return Problem(dotted(path), reason, hint, self.lines.get(at, 0))


def read(text: str) -> Document:
    """Read one YAML map.

    Raises:
        SpecError: the text is not YAML, not one map, or too large. Smaller defects are the document's `problems`.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _refused(f"is larger than {MAX_BYTES // 1024} KiB")
    builder = _Builder()
    data = builder.value(_root(text), ())
    if not isinstance(data, dict):
        raise SpecError(tuple(builder.problems))
    return Document(data, builder.lines, builder.spellings, tuple(builder.problems))


def _refused(reason: str, line: int = 0, hint: str = "") -> SpecError:
    return SpecError((Problem("", reason, hint, line),))


_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_SCALARS: dict[str, Callable[[yaml.ScalarNode], Any]] = {
    _YAML + "str": lambda node: node.value,
    _YAML + "value": lambda node: node.value,  # YAML 1.1's special meaning of a lone `=`
    _YAML + "null": lambda _: None,
    _YAML + "bool": _CONSTRUCTOR.construct_yaml_bool,
    _YAML + "int": _CONSTRUCTOR.construct_yaml_int,
    _YAML + "float": _CONSTRUCTOR.construct_yaml_float,
}


class _Loader(yaml.SafeLoader):
    """Composes nodes with a bound on depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None,
                None,
                f"nested more than {MAX_DEPTH} levels deep",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]  # the stubs leave it out
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _without_yaml_1_1_numbers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    plain = {
        _YAML + "int": re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
        _YAML + "float": re.compile(
            r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
    }
    return {
        first: [(tag, plain.get(tag, pattern)) for tag, pattern in pairs if tag != _YAML + "timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _without_yaml_1_1_numbers()


def _root(text: str) -> yaml.MappingNode:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _refused(f"holds a character that YAML forbids (code {error.character:#x})", line) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.YAMLError as error:
        raise _refused(f"is not YAML: {error}") from error
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        raise _refused("is empty", hint="a service needs at least the sections service, resources and run")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise _refused(f"is {kind}, but must be a map with the key service", root.start_mark.line + 1)
    return root


def _syntax_error(error: yaml.MarkedYAMLError) -> SpecError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 0
    if error.context == "expected a single document in the stream":
        return _refused("holds more than one YAML document", line, "put each service in a file of its own")
    problem = str(error.problem).replace("'<stream end>'", "the end of the file")
    where = f" at column {mark.column + 1}" if mark else ""
    while_doing = f" {error.context}" if error.context else ""
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        while_doing += f" that began on line {error.context_mark.line + 1}"
    hint = "indent with spaces, never with tabs" if "'\\t'" in problem else ""
    return _refused(f"is not valid YAML{where}: {problem}{while_doing}", line, hint)


@dataclass(slots=True)
class _Builder:
    """Turns nodes into data; collects what is wrong on the way."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    spellings: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    ancestors: set[int] = field(default_factory=set)

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _refused(f"holds more than {MAX_NODES} values once aliases are expanded", node.start_mark.line + 1)
        if id(node) in self.ancestors:
            raise _refused(f"refers to {dotted(path)} from inside itself", node.start_mark.line + 1)
        self.lines.setdefault(path, node.start_mark.line + 1)
        self.ancestors.add(id(node))
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
                return self._map(node, path)
        finally:
            self.ancestors.discard(id(node))
        return self._wrong(node, path, f"has the tag {node.tag}, which a service file cannot use")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        self.spellings[path] = node.value
        read = _SCALARS.get(node.tag)
        if read is None:
            return self._wrong(node, path, f"has the tag {node.tag}, which a service file cannot use")
        if not is_portable(node.value):
            return self._wrong(node, path, "holds a character that no environment or file can carry")
        try:
            value = read(node)
        except (ValueError, KeyError, IndexError):  # what PyYAML raises for `!!int x`, `!!bool x`, `!!int ""`
            return self._wrong(node, path, f"is not a valid {node.tag.removeprefix(_YAML)}")
        if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
            return self._wrong(node, path, "is too large")
        return value

    def _map(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = self._merge(value_node, path) | merged
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "has a key that is not plain text")
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in own:
                first = self.lines[*path, key]
                lines = f"twice on line {line}" if first == line else f"on line {first} and again on line {line}"
                self.problems.append(Problem(dotted((*path, key)), f"is given {lines}", "keep one of them", line))
                continue
            self.lines[*path, key] = line
            if not is_portable(key):
                self._wrong(key_node, path, "has a key with a character that no environment or file can carry")
            own[key] = self.value(value_node, (*path, key))
        return merged | own

    def _merge(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """What `<<` stands for: one map or a list of maps, the first of which wins."""
        found: dict[str, Any] = {}
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            content = self.value(each, path)
            if isinstance(content, dict):
                found = content | found
            else:
                self._wrong(each, path, "merges (<<) something that is not a map")
        return found

    def _wrong(self, node: yaml.Node, path: KeyPath, reason: str) -> None:
        self.problems.append(Problem(dotted(path), reason, "", node.start_mark.line + 1))
