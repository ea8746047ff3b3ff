"""What `AwsAccount` asks of CloudFormation, and promises beyond its port."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from chalicelib.errors import Invalid
from sailplane.deploy.account import CloudUnreachable, DeployFailed
from sailplane.deploy.deployment import Deployment

if TYPE_CHECKING:
    import boto3

    from sailplane.deploy.aws import AwsAccount

ACME = Deployment("acme")
OURS = "arn:aws:cloudformation:us-east-1:123456789012:changeSet/sailplane/1"


def account_of(client: Any) -> AwsAccount:
    """An account in which every service is the given client."""
    from sailplane.deploy import aws  # noqa: PLC0415 takes a while to import, which other tests need not pay

    class Session:
        region_name = "us-east-1"

        def client(self, *_args: Any, **_options: Any) -> Any:
            return client

    return aws.AwsAccount(cast("boto3.Session", Session()))


def client_of(service: Any) -> Any:
    import boto3  # noqa: PLC0415 same

    return boto3.client(service, "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def test_what_s3_does_not_delete_is_said() -> None:
    """It answers 200 all the same, and a bucket that is not empty would be the next thing to fail, without a reason."""
    from botocore.stub import Stubber  # noqa: PLC0415 same

    client = client_of("s3")
    with Stubber(client) as s3:
        error = {"Key": "code/one", "Code": "AccessDenied", "Message": "Access Denied by a policy"}
        s3.add_response("delete_objects", {"Errors": [error]})
        with pytest.raises(DeployFailed, match=r"1 of 2 objects in b; code/one: Access Denied by a policy\. Mend"):
            account_of(client).delete_objects("b", ["code/one", "code/two"])


def test_whose_account_it_is_needs_no_right_to_read_its_alias() -> None:
    """The number is enough."""
    from botocore.stub import Stubber  # noqa: PLC0415 same

    sts, iam = client_of("sts"), client_of("iam")
    caller = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me", "UserId": "U"}

    class Both:
        get_caller_identity = sts.get_caller_identity
        list_account_aliases = iam.list_account_aliases

    for aliases, shown in ((None, ""), ([], ""), (["acme"], " (acme)")):
        with Stubber(sts) as first, Stubber(iam) as second:
            first.add_response("get_caller_identity", caller)
            if aliases is None:
                second.add_client_error("list_account_aliases", "AccessDenied", "no")
            else:
                second.add_response("list_account_aliases", {"AccountAliases": aliases})
            assert str(account_of(Both()).identity()) == f"AWS account 123456789012{shown}"


def test_what_is_executed_is_what_was_proposed() -> None:
    """By its ARN: another bootstrap may have proposed something else in between, which nobody here has been shown."""
    from botocore.stub import Stubber  # noqa: PLC0415 takes a while to import, which other tests need not pay

    client = client_of("cloudformation")
    account = account_of(client)
    named = {"StackName": ACME.stack, "ChangeSetName": "sailplane"}
    ours = {"StackName": ACME.stack, "ChangeSetName": OURS}
    seen = {"Status": "CREATE_COMPLETE", "Changes": []}
    with Stubber(client) as formation:
        formation.add_response("delete_change_set", {}, named)
        formation.add_response("create_change_set", {"Id": OURS})
        formation.add_response("describe_change_set", seen, ours)
        formation.add_response("describe_change_set", seen, ours)
        formation.add_client_error("execute_change_set", "ChangeSetNotFound", "it is gone", expected_params=ours)
        account.propose(ACME, "{}", {}, is_new=True)
        with pytest.raises(CloudUnreachable, match="Somebody else changes"):
            account.execute(ACME)
        formation.assert_no_pending_responses()


def test_a_region_that_is_none_is_not_taken_for_missing_credentials() -> None:
    """With the nearest that there is, if there is one near; those of the other partitions are regions too."""
    from sailplane.deploy import aws  # noqa: PLC0415 same

    for region, says in {"us-esat-1": "Did you mean us-east-1? If", "moon": "boto3 knows. If"}.items():
        with pytest.raises(Invalid, match=re.escape(says)):
            aws.session(region)
    session = aws.session("cn-north-1")
    assert session.region_name == "cn-north-1"
    with pytest.raises(Invalid, match="Did you mean us-east-1"):
        aws.AwsAccount(session).require_regions(("us-west-2", "us-esat-1"))


def test_regions_that_the_account_has_not_enabled_are_named() -> None:
    """Whoever may not ask is told nothing."""
    from botocore.stub import Stubber  # noqa: PLC0415 same

    client = client_of("ec2")
    with Stubber(client) as ec2:
        ec2.add_response("describe_regions", {"Regions": [{"RegionName": "us-east-1"}]})
        ec2.add_client_error("describe_regions", "UnauthorizedOperation", "no")
        account = account_of(client)
        assert account.not_enabled(("us-east-1", "ap-east-1")) == ("ap-east-1",)
        assert account.not_enabled(("ap-east-1",)) == ()
