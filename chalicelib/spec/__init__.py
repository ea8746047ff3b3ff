"""The service file: YAML text in, the core's `ServiceSpec` out, or every problem at once.

document      text -> plain data and lines
environment   variables: precedence, env files, `$VAR`
references    variables whose values are secrets, kept elsewhere
schema        what may be written (pydantic)
values        what one value may be; forms: its notation (`A100:8`, `32+`, cron)
explain       what does not fit, in plain words
translate     schema -> core
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from chalicelib.errors import Problem, SpecError
from chalicelib.model import ServiceSpec
from chalicelib.spec import document, environment, explain, references, translate
from chalicelib.spec.environment import parse_env_file
from chalicelib.spec.references import with_secrets
from chalicelib.spec.schema import ServiceFile

__all__ = ["Parsed", "json_schema", "parse", "parse_env_file", "require_reachable_workdir", "with_secrets"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A service file that is in order."""

    spec: ServiceSpec
    name: str  # the file's own, or empty
    not_acted_on: tuple[str, ...]  # "service.budget: ..." for every given field that has no machinery yet


def parse(
    text: str,
    *,
    env_overrides: Mapping[str, str] = MappingProxyType({}),
    known_accelerators: Sequence[str] = (),
) -> Parsed:
    """Read a service file.

    Args:
        text: YAML, at most 64 KiB.
        env_overrides: variables that take precedence over the file's `envs` (env file, then --env, merged by the caller).
        known_accelerators: canonical names; accelerators are then matched regardless of case, and others refused.

    Raises:
        SpecError: with everything that is wrong, in the order of the file.
    """
    source = document.read(text)
    envs, env_problems = environment.resolve(source, env_overrides)
    right, key_problems = explain.without_wrong_keys(source.data, ServiceFile, source)
    data = environment.substitute(right, envs)
    problems = [*source.problems, *env_problems, *key_problems, *references.misplaced(source)]
    problems += references.half_a_registry(source, envs)
    try:
        context = {
            "accelerators": {name.lower(): name for name in known_accelerators},
            "envs": envs,
            "secrets": references.variables(source.data.get("secrets")),
        }
        file = ServiceFile.model_validate(data, context=context)
    except ValidationError as error:
        raise _refusal([*problems, *explain.problems(error, data, source)]) from error
    if problems:
        raise _refusal(problems)
    return Parsed(translate.service_spec(file, envs), file.name or "", translate.not_acted_on(file))


def require_reachable_workdir(service: ServiceSpec, providers: Iterable[str]) -> None:
    """Refuse a `workdir` on this machine when the service may be placed in a cloud, whose machines cannot read it.

    `providers` are those of the service's feasible offers. Raises `SpecError`.
    """
    clouds = sorted({*providers} - {"local"})
    if service.engine.workdir and clouds:
        hint = "add resources.infra: local, bring the files in an image (image_id: docker:IMAGE), or git clone them in setup"
        raise SpecError((Problem("workdir", f"is not copied to machines of {', '.join(clouds)} yet", hint),))


def _refusal(problems: Iterable[Problem]) -> SpecError:
    """Everything that is wrong, in the order of the file; of several problems in one place only the first, its cause."""
    by_path: dict[str, Problem] = {}
    for problem in problems:
        by_path.setdefault(problem.path, problem)
    return SpecError(tuple(sorted(by_path.values(), key=lambda problem: (problem.line, problem.path))))


class _UserSchema(GenerateJsonSchema):
    """Optional keys are left out by users, not written as null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        return {key: value for key, value in described.items() if (key, value) != ("default", None)}


def json_schema() -> dict[str, Any]:
    """The service file's form as JSON Schema (draft 2020-12). Rules that span several fields are not part of it."""
    return ServiceFile.model_json_schema(schema_generator=_UserSchema)
