"""What `AwsAccount` asks of CloudFormation, and promises beyond its port."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sailplane.deploy.account import CloudUnreachable
from sailplane.deploy.deployment import Deployment

ACME = Deployment("acme")
OURS = "arn:aws:cloudformation:us-east-1:123456789012:changeSet/sailplane/1"


def test_what_is_executed_is_what_was_proposed() -> None:
    """By its ARN: another bootstrap may have proposed something else in between, which nobody here has been shown."""
    import boto3  # noqa: PLC0415 takes a while to import, which other tests need not pay
    from botocore.stub import Stubber  # noqa: PLC0415 same

    from sailplane.deploy import aws  # noqa: PLC0415 same

    client = boto3.client("cloudformation", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")

    class Session:
        region_name = "us-east-1"

        def client(self, *_args: Any, **_options: Any) -> Any:
            return client

    account = aws.AwsAccount(cast("boto3.Session", Session()))
    named = {"StackName": ACME.stack, "ChangeSetName": "sailplane"}
    seen = {"Status": "CREATE_COMPLETE", "Changes": []}
    with Stubber(client) as formation:
        formation.add_response("delete_change_set", {}, named)
        formation.add_response("create_change_set", {"Id": OURS})
        formation.add_response("describe_change_set", seen, named)
        formation.add_response("describe_change_set", seen, named)
        gone = {"StackName": ACME.stack, "ChangeSetName": OURS}
        formation.add_client_error("execute_change_set", "ChangeSetNotFound", "it is gone", expected_params=gone)
        account.propose(ACME, "{}", {}, is_new=True)
        with pytest.raises(CloudUnreachable, match="Somebody else changes"):
            account.execute(ACME)
        formation.assert_no_pending_responses()
