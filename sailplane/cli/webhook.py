"""`sailplane webhook`: which branches services follow."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import click

from chalicelib.api.schemas import LONGEST_OVERLAP_S, NewWebhook, Webhook, valid_name
from chalicelib.errors import Exists, Invalid
from chalicelib.model import HookKind
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.failures import NoWebhook, Taken
from sailplane.cli.keys import Duration, minute, utc
from sailplane.cli.output import Output

_HEADING = ("ID", "SERVICE", "FOLLOWS", "LAST PUSH (UTC)", "OUTCOME")
_COMMIT_CHARACTERS = 10
# The forges' own words for making one.
_ADD = {HookKind.GITHUB: "Add webhook", HookKind.GITLAB: "Add new webhook", HookKind.GENERIC: ""}


class GitHubRepository(click.ParamType[str]):
    """The name of a repository at GitHub, which has two parts; GitLab's have more."""

    name = "OWNER/REPO"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx  # click's signature
        return self.name

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value.count("/") != 1:
            self.fail(f"{value!r} is no OWNER/REPO, as in the repository's address", param, ctx)
        return value


@click.group("webhook")
def command() -> None:
    """Have services follow branches: a push deploys, and what is wrong with it is said beside its commit.

    Only the current head of the branch is deployed. A push whose delivery gets lost is found within five minutes.
    """


@command.command()
@click.argument("service")
@click.option("--github", type=GitHubRepository(), help="Follow a repository at GitHub.")
@click.option("--gitlab", metavar="GROUP/PROJECT", help="Follow a repository at GitLab.")
@click.option("--generic", is_flag=True, help="Take signed deliveries that bring the service file themselves.")
@click.option("--branch", metavar="NAME", help="The branch to follow. [default: main]")
@click.option("--file", "path", metavar="PATH", help="The service file in the repository. [default: service.yaml]")
@click.option(
    "--token-secret", default="", metavar="NAME", help="The secret (`sailplane secrets`) with the forge's token."
)
@click.option(
    "--api-url", default="", metavar="URL", help="Of a forge of your own. [default: github.com's, gitlab.com's]"
)
@connection.client
@output.options
def create(
    out: Output,
    *,
    client: Client,
    service: str,
    github: str | None,
    gitlab: str | None,
    generic: bool,
    branch: str | None,
    path: str | None,
    token_secret: str,
    api_url: str,
) -> None:
    """Have SERVICE follow a branch, and print what to paste where.

    The service is made from the head of the branch if it does not exist. Private repositories, and the statuses of commits,
    want a token: keep one with `sailplane secrets set NAME --no-service` and give --token-secret NAME.
    """
    given = {HookKind.GITHUB: github, HookKind.GITLAB: gitlab, HookKind.GENERIC: "" if generic else None}
    chosen = [(kind, repository) for kind, repository in given.items() if repository is not None]
    if len(chosen) != 1:
        raise click.UsageError("Give one of --github OWNER/REPO, --gitlab GROUP/PROJECT or --generic.")
    if generic and (branch or path or token_secret or api_url):
        raise click.UsageError(
            "With --generic the sender decides what is deployed, and no forge is asked: leave out --branch, --file,"
            " --token-secret and --api-url."
        )
    _require_valid(service)
    kind, repository = chosen[0]
    wanted = {
        "repository": repository,
        "branch": branch,
        "path": path,
        "token_secret": token_secret,
        "api_url": api_url,
    }
    given_ones = {name: value for name, value in wanted.items() if value}
    try:
        made = client.create_webhook({"kind": kind, "service": service, **given_ones})
    except Exists as error:
        raise Taken(str(error), f"sailplane webhook remove {service}", "the same command again") from error
    _tell(out, made, _ADD[kind])


@command.command("list")
@connection.client
@output.options
def list_(out: Output, *, client: Client) -> None:
    """Show all webhooks, what was pushed last and what became of it."""
    found = client.webhooks()
    if found:
        out.table(_HEADING, [_row(one) for one in found])
    else:
        out.data("No webhooks.")
    out.document({"webhooks": [one.model_dump(mode="json") for one in found]})
    for one in found:
        if one.trouble:
            out.message(f"{one.id}: {one.trouble}")
    out.next("sailplane webhook create SERVICE --github OWNER/REPO")


@command.command()
@click.argument("webhooks", nargs=-1, required=True, metavar="WEBHOOK...")
@connection.client
@output.options
def remove(out: Output, *, client: Client, webhooks: tuple[str, ...]) -> None:
    """Remove WEBHOOK..., given by id or by its service's name. The service stays as it is and follows nothing any more.

    When one of them is unknown, nothing is done to the others either.
    """
    known = client.webhooks()
    chosen = list(dict.fromkeys(_find(known, wanted).id for wanted in webhooks))
    for hook_id in chosen:
        client.remove_webhook(hook_id)
        out.data(f"{hook_id} is removed. Remove it at its sender too.")
    out.document({"removed": chosen})
    out.next("sailplane webhook list")


@command.command()
@click.argument("webhook", metavar="WEBHOOK")
@click.option(
    "--overlap",
    type=Duration(LONGEST_OVERLAP_S, may_be_0=True),
    default="24h",
    show_default=True,
    help="How long the old secret goes on working.",
)
@connection.client
@output.options
def rotate(out: Output, *, client: Client, webhook: str, overlap: float) -> None:
    """Replace the secret of WEBHOOK, given by id or by its service's name, and print what to paste where."""
    made = client.rotate_webhook(_find(client.webhooks(), webhook).id, overlap)
    ends = datetime.now(UTC) + timedelta(seconds=overlap)
    out.message(f"What is signed with the old secret is taken until {utc(ends)}: put the new one in its place by then.")
    _tell(out, made, "Edit")


def _tell(out: Output, made: NewWebhook, button: str) -> None:
    out.data(_PASTED[made.kind](made, button))
    out.document(made.model_dump(mode="json"))
    if out.as_json:
        return
    if is_private(made.url):
        out.message(
            f"Nobody outside your network reaches {made.url}: the forge's deliveries would fail. Give it an address that the forge"
            " reaches, such as a tunnel's with the same path"
            f"{'.' if made.kind is HookKind.GENERIC else ', or leave it at that: the branch is looked at every five minutes.'}"
        )
    out.message(f"The secret is shown this once; `sailplane webhook rotate {made.id}` makes another.")
    if made.kind is not HookKind.GENERIC and not made.token_secret:
        out.message(
            "Without --token-secret only a public repository can be read, GitHub answers 60 questions an hour, and commits"
            " get no status."
        )
    out.next("sailplane webhook list", f"sailplane events {made.service}")


def is_private(url: str) -> bool:
    """Whether only this machine or its network reaches the address, as far as it shows."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".home.arpa"))


def _github(made: NewWebhook, button: str) -> str:
    return _lines(
        f"At {made.repository}, Settings > Webhooks > {button}:",
        {
            "Payload URL": made.url,
            "Content type": "application/json",
            "Secret": made.secret,
            "SSL verification": "Enable",
            "Events": "Just the push event",
        },
    )


def _gitlab(made: NewWebhook, button: str) -> str:
    return _lines(
        f"At {made.repository}, Settings > Webhooks > {button}:",
        {
            "URL": made.url,
            "Signing token": f"{made.secret} (GitLab that has none: Secret token)",
            "Trigger": f"Push events, wildcard pattern {made.branch}",
            "SSL verification": "Enable",
        },
    )


def _generic(made: NewWebhook, _button: str) -> str:
    return _lines(
        "Send, signed as https://www.standardwebhooks.com says:",
        {
            "URL": made.url,
            "Secret": made.secret,
            "Body": '{"type": "push", "timestamp": NOW, "data": {"commit": NAME, "yaml": FILE}}',
        },
    )


_PASTED: Mapping[HookKind, Callable[[NewWebhook, str], str]] = {
    HookKind.GITHUB: _github,
    HookKind.GITLAB: _gitlab,
    HookKind.GENERIC: _generic,
}


def _lines(heading: str, fields: Mapping[str, str]) -> str:
    width = max(map(len, fields))
    return "\n".join([heading, *(f"  {name:<{width}}  {value}" for name, value in fields.items())])


def _require_valid(service: str) -> None:
    try:
        valid_name(service)
    except ValueError as error:
        raise Invalid(f"{error}. No webhook was made.") from error


def _find(known: tuple[Webhook, ...], wanted: str) -> Webhook:
    found = [one for one in known if one.id == wanted] or [one for one in known if one.service == wanted]
    if not found:
        raise NoWebhook(f"There is no webhook {wanted!r}.")
    if len(found) > 1:
        raise Invalid(f"{wanted!r} may mean {', '.join(one.id for one in found)}. Give the id.")
    return found[0]


def _row(one: Webhook) -> tuple[str, ...]:
    follows = f"{one.kind} {one.repository} {one.branch} {one.path}" if one.repository else one.kind
    return (one.id, one.service, follows, _pushed(one), _outcome(one))


def _pushed(one: Webhook) -> str:
    if one.pushed is None:
        return "-"
    waits = " (waits)" if one.pushed.pending else ""
    return f"{one.pushed.commit[:_COMMIT_CHARACTERS]} {minute(one.pushed.at)}{waits}"


def _outcome(one: Webhook) -> str:
    if one.outcome is None:
        return "-"
    commit = one.outcome.commit[:_COMMIT_CHARACTERS]
    if one.outcome.version is None:
        return f"{commit} refused: {' '.join(one.outcome.message.split())}"
    return f"{commit} is version {one.outcome.version}"
