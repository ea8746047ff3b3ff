"""`sailplane trust`: which CI jobs deploy without a key of their own."""

from __future__ import annotations

import click

from chalicelib.api.schemas import Trust, valid_name
from chalicelib.errors import Invalid
from chalicelib.model import OidcIssuer
from sailplane.cli import connection, identity, output
from sailplane.cli.client import Client
from sailplane.cli.failures import NoTrust
from sailplane.cli.keys import day
from sailplane.cli.output import Output
from sailplane.cli.webhook import GitHubRepository, is_private

_HEADING = ("ID", "REPOSITORY", "REF", "ENVIRONMENT", "SERVICES", "CREATED")


@click.group("trust")
def command() -> None:
    """Let CI jobs deploy without a key: their forge says who they are, and they get a key for 15 minutes.

    A job shows the identity token (OpenID Connect) that GitHub Actions or GitLab CI makes for it. No secret is kept in CI.
    """


@command.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--all", "everything", is_flag=True, help="For all services, later ones too.")
@click.option("--github", type=GitHubRepository(), help="Jobs of GitHub Actions in this repository.")
@click.option("--gitlab", metavar="GROUP/PROJECT", help="Jobs of GitLab CI in this project.")
@click.option("--branch", metavar="NAME", help="Only on this branch; may end in *.")
@click.option("--tag", metavar="NAME", help="Only on this tag; may end in *.")
@click.option("--environment", default="", metavar="NAME", help="Only in this environment, which may ask for reviews.")
@click.option(
    "--repository-id", default="", metavar="NUMBER", help="The repository's number, which no later one of its name has."
)
@click.option(
    "--issuer", default="", metavar="URL", help="Of a forge of your own. [default: github.com's, gitlab.com's]"
)
@connection.client
@output.options
def create(
    out: Output,
    *,
    client: Client,
    services: tuple[str, ...],
    everything: bool,
    github: str | None,
    gitlab: str | None,
    branch: str | None,
    tag: str | None,
    environment: str,
    repository_id: str,
    issuer: str,
) -> None:
    """Let jobs of a repository deploy SERVICE..., on a branch, a tag or in an environment.

    A key made so creates, changes and shuts down these services, reads what they do, and nothing else. Pull requests' jobs get
    none.
    """
    if everything == bool(services):
        raise click.UsageError("Name the services that may be deployed or give --all.")
    if (github is None) == (gitlab is None):
        raise click.UsageError("Give one of --github OWNER/REPO and --gitlab GROUP/PROJECT.")
    if branch and tag:
        raise click.UsageError("Give --branch or --tag; for both make two trusts.")
    if not (branch or tag or environment):
        raise click.UsageError(
            "Give --branch, --tag or --environment: without, whoever may push any branch could deploy."
        )
    for service in services:
        _require_valid(service)
    made = client.create_trust(
        {
            "kind": OidcIssuer.GITLAB if github is None else OidcIssuer.GITHUB,
            "repository": github or gitlab,
            "services": ["*"] if everything else list(services),
            "ref": f"refs/heads/{branch}" if branch else f"refs/tags/{tag}" if tag else "",
            "environment": environment,
            "repository_id": repository_id,
            "issuer": issuer,
        }
    )
    _tell(out, client, made)


@command.command()
@click.option(
    "--audience",
    envvar="SAILPLANE_AUDIENCE",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="Whom the token is for, and where it is exchanged, as `sailplane trust create` prints it.",
)
@click.option(
    "--id-token", envvar="SAILPLANE_ID_TOKEN", show_envvar=True, help="The identity token, as GitLab CI makes it."
)
@click.option("--request-url", envvar="ACTIONS_ID_TOKEN_REQUEST_URL", hidden=True)
@click.option("--request-token", envvar="ACTIONS_ID_TOKEN_REQUEST_TOKEN", hidden=True)
@output.options
def key(
    out: Output,
    *,
    audience: str,
    id_token: str | None,
    request_url: str | None,
    request_token: str | None,
) -> None:
    """In a CI job: exchange its identity token for a key and print that alone, as in SAILPLANE_KEY=$(sailplane trust key).

    In GitHub Actions the token is asked for here; the workflow needs `permissions: id-token: write`. In GitLab CI the job's
    `id_tokens` make it.
    """
    kind = OidcIssuer.GITLAB
    if not id_token:
        kind = OidcIssuer.GITHUB
        if not (request_url and request_token):
            raise click.UsageError(
                "There is no identity token here. GitHub Actions wants `permissions: id-token: write`, GitLab CI"
                f" `id_tokens: SAILPLANE_ID_TOKEN: aud: {audience}`."
            )
        id_token = identity.asked_of_github(request_url, request_token, audience)
    made = identity.exchanged(audience, kind, id_token)
    out.data(made.key)
    out.document(made.model_dump(mode="json"))


@command.command("list")
@connection.client
@output.options
def list_(out: Output, *, client: Client) -> None:
    """Show which jobs may deploy what."""
    found = client.trusts()
    if found:
        out.table(_HEADING, [_row(one) for one in found])
    else:
        out.data("No trusts.")
    out.document({"trusts": [one.model_dump(mode="json") for one in found]})
    out.next("sailplane trust create SERVICE --github OWNER/REPO --branch main")


@command.command()
@click.argument("trusts", nargs=-1, required=True, metavar="TRUST...")
@connection.client
@output.options
def remove(out: Output, *, client: Client, trusts: tuple[str, ...]) -> None:
    """Remove TRUST..., given by id. When one of them is unknown, nothing is done to the others either.

    Keys that jobs have got already end within 15 minutes; `sailplane admin-keys` revokes them at once.
    """
    known = {one.id for one in client.trusts()}
    chosen = list(dict.fromkeys(trusts))
    for wanted in chosen:
        if wanted not in known:
            raise NoTrust(f"There is no trust {wanted!r}.")
    for trust_id in chosen:
        client.remove_trust(trust_id)
        out.data(f"{trust_id} is removed.")
    out.document({"removed": chosen})
    out.next("sailplane trust list")


def _tell(out: Output, client: Client, made: Trust) -> None:
    """What a workflow has to know."""
    out.data(
        f"Jobs of {made.repository} {_limits(made)} may deploy {_services(made)}.\n"
        f"  SAILPLANE_URL       {client.url}\n"
        f"  SAILPLANE_AUDIENCE  {made.audience}"
    )
    out.document({**made.model_dump(mode="json"), "url": client.url})
    if is_private(made.audience):
        out.message(f"Only jobs that run in your network reach {made.audience}, where they exchange their tokens.")
    example = "github-deploy.yml" if made.kind is OidcIssuer.GITHUB else "gitlab-ci.yml"
    out.next(
        f"take examples/ci/{example} and examples/ci/deploy.py into the repository, with these two addresses",
        f"sailplane trust remove {made.id}",
    )


def _limits(one: Trust) -> str:
    """Which of the repository's jobs are meant."""
    where = one.ref.replace("refs/heads/", "on the branch ", 1).replace("refs/tags/", "on the tag ", 1)
    return " ".join(filter(None, (where, one.environment and f"in the environment {one.environment}")))


def _services(one: Trust) -> str:
    return "all services" if "*" in one.services else ", ".join(one.services)


def _require_valid(service: str) -> None:
    try:
        valid_name(service)
    except ValueError as error:
        raise Invalid(f"{error}. No trust was made; for all services give --all.") from error


def _row(one: Trust) -> tuple[str, ...]:
    services = "all" if "*" in one.services else ",".join(one.services)
    return (
        one.id,
        f"{one.kind} {one.repository}",
        one.ref or "any",
        one.environment or "any",
        services,
        day(one.created_at),
    )
