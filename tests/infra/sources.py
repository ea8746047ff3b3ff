"""What can be reached from a function of the control plane, read from its sources: who calls what, not who might one day.

A name is followed to where it is defined, through imports and re-exports; of a class everything counts that it defines.
What is called on a value (`runtime.schedule.on`) is not followed, but told: which port's method it is, the receiver's name
says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

Definition = tuple[str, ast.AST]  # a module's name, and the function, class or assignment in it


@dataclass(frozen=True)
class Call:
    """`receiver.method(arguments)`; the arguments as far as they are texts, "" for others."""

    receiver: str
    method: str
    texts: tuple[str, ...] = ()


class Sources:
    """The modules of a package of ours, by name."""

    def __init__(self, package: str) -> None:
        self._trees = {_name(path): ast.parse(path.read_text()) for path in sorted((ROOT / package).rglob("*.py"))}

    def definition(self, module: str, name: str) -> Definition | None:
        """Where a module's name is defined, there or where the module has it from."""
        if (found := self._definitions[module].get(name)) is not None:
            return module, found
        origin = self._imports[module].get(name)
        return self.definition(*origin) if origin and origin[1] else None

    def method(self, module: str, owner: str, name: str) -> Definition:
        """A method of a class."""
        return module, next(each for each in self._methods(module, owner) if each.name == name)

    def methods(self, module: str, owner: str) -> set[str]:
        """The names of a class's public methods."""
        return {each.name for each in self._methods(module, owner) if not each.name.startswith("_")}

    def _methods(self, module: str, owner: str) -> Iterator[ast.FunctionDef]:
        tree = self._definitions[module].get(owner)
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        return (each for each in body if isinstance(each, ast.FunctionDef))

    def calls(self, starts: Iterable[Definition], owner: str = "") -> set[Call]:
        """All calls on values in what can be reached. `owner`: the class of which `self` is, for one method's own way."""
        seen: set[Definition] = set()
        waiting, calls = list(starts), set[Call]()
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                made, references = self._read(here)
                calls |= made
                waiting += [found for each in references if (found := self._followed(here[0], each, owner))]
        return calls

    def _followed(self, module: str, reference: tuple[str, str], owner: str) -> Definition | None:
        receiver, name = reference
        if receiver == "self":
            return next(((module, one) for one in self._methods(module, owner) if one.name == name), None)
        if not receiver:
            return self.definition(module, name)
        origin = self._imports[module].get(receiver)
        return self.definition(origin[0], name) if origin and not origin[1] else None

    @cache  # noqa: B019 lives as long as the tests that ask it
    def _read(self, definition: Definition) -> tuple[set[Call], set[tuple[str, str]]]:
        calls, references = set[Call](), set[tuple[str, str]]()
        for node in ast.walk(definition[1]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                calls.add(Call(ast.unparse(node.func.value), node.func.attr, tuple(map(_text, node.args))))
            if isinstance(node, ast.Attribute):
                calls.add(Call(ast.unparse(node.value), node.attr))  # handed over, to be called by another
                references |= {(node.value.id, node.attr)} if isinstance(node.value, ast.Name) else set()
            elif isinstance(node, ast.Name):
                references.add(("", node.id))
        return calls, references

    @cached_property
    def _definitions(self) -> Mapping[str, Mapping[str, ast.AST]]:
        return {module: dict(_defined(tree)) for module, tree in self._trees.items()}

    @cached_property
    def _imports(self) -> Mapping[str, Mapping[str, tuple[str, str]]]:
        """By module and name: the module that it is of, and what it is called there; "" when it is that module itself."""
        return {module: dict(self._imported(tree)) for module, tree in self._trees.items()}

    def _imported(self, tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if whole in self._trees:
                        yield alias.asname or alias.name, (whole, "")
                    elif node.module in self._trees:
                        yield alias.asname or alias.name, (node.module, alias.name)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
