"""Change sets while somebody else changes the same stack, or a run that was killed has left one behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from sailplane.deploy.account import CloudUnreachable
from sailplane.deploy.deployment import Deployment

if TYPE_CHECKING:
    from botocore.stub import Stubber

    from sailplane.deploy.aws import AwsAccount

ACME = Deployment("acme")
OURS = "arn:aws:cloudformation:us-east-1:123456789012:changeSet/sailplane/1"
NAMED = {"StackName": ACME.stack, "ChangeSetName": "sailplane"}
COMPUTED = {"Status": "CREATE_COMPLETE", "Changes": []}


@pytest.fixture
def formation() -> Iterator[Stubber]:
    """CloudFormation's answers, in their order; all that are put in have to be asked for."""
    import boto3  # noqa: PLC0415 takes a while to import, which other tests need not pay
    from botocore.stub import Stubber  # noqa: PLC0415 same

    client = boto3.client("cloudformation", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def account(formation: Stubber) -> AwsAccount:
    from sailplane.deploy import aws  # noqa: PLC0415 as above

    class Session:
        region_name = "us-east-1"

        def client(self, *_args: Any, **_options: Any) -> Any:
            return formation.client

    return aws.AwsAccount(cast("Any", Session()), pause=lambda _s: None)


def test_what_is_proposed_while_another_operation_goes_on_is_not_executed(
    account: AwsAccount, formation: Stubber
) -> None:
    """What goes on is not waited for here: it may make the plan that was shown untrue."""
    formation.add_response("delete_change_set", {}, NAMED)
    formation.add_response("create_change_set", {"Id": OURS})
    formation.add_response("describe_change_set", COMPUTED, NAMED)
    formation.add_response("describe_change_set", COMPUTED, NAMED)
    ours = {"StackName": ACME.stack, "ChangeSetName": OURS}
    formation.add_client_error("execute_change_set", "InvalidChangeSetStatus", "not now", expected_params=ours)
    account.propose(ACME, "{}", {}, is_new=True)
    with pytest.raises(CloudUnreachable, match="Somebody else changes"):
        account.execute(ACME)


def test_a_change_that_is_still_being_computed_is_waited_for(account: AwsAccount, formation: Stubber) -> None:
    """A run that was killed has left it behind; CloudFormation deletes it once it is computed, some seconds later."""
    for _ in range(2):
        formation.add_client_error("delete_change_set", "InvalidChangeSetStatus", "CREATE_IN_PROGRESS")
    formation.add_response("delete_change_set", {}, NAMED)
    account.withdraw(ACME)


def test_a_change_that_is_computed_for_ever_is_not_waited_for(account: AwsAccount, formation: Stubber) -> None:
    """Of what takes minutes nothing will come; the user is told, and may run the command again."""
    for _ in range(600):
        formation.add_client_error("delete_change_set", "InvalidChangeSetStatus", "CREATE_IN_PROGRESS")
    with pytest.raises(CloudUnreachable, match="within 300 s"):
        account.withdraw(ACME)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AlreadyExistsException", "ChangeSet sailplane already exists"),
        ("ValidationError", f"Stack:arn:…/{ACME.stack}/1 is in UPDATE_IN_PROGRESS state and can not be updated."),
    ],
)
def test_what_somebody_else_does_meanwhile_is_theirs(
    account: AwsAccount, formation: Stubber, code: str, message: str
) -> None:
    """It is no failure of ours, after which a first deployment would be taken away again, with theirs in it."""
    formation.add_response("delete_change_set", {}, NAMED)
    formation.add_client_error("create_change_set", code, message)
    with pytest.raises(CloudUnreachable, match="Somebody else changes"):
        account.propose(ACME, "{}", {}, is_new=True)
