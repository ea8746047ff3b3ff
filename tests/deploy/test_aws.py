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


@pytest.mark.parametrize(
    ("region", "says"),
    [
        ("us-esat-1", "Did you mean us-east-1?"),
        ("eu-centrall-1", "Did you mean eu-central-1?"),
        ("moon", "boto3 knows. If"),
    ],
)
def test_a_region_that_is_none_is_not_taken_for_missing_credentials(region: str, says: str) -> None:
    """With the nearest that there is."""
    from sailplane.deploy import aws  # noqa: PLC0415 same

    with pytest.raises(Invalid, match=re.escape(says)):
        aws.session(region)


@pytest.mark.parametrize("region", ["eu-central-2", "us-gov-west-1", "cn-north-1"])
def test_any_region_of_aws_is_one(region: str) -> None:
    """Of the other partitions too."""
    from sailplane.deploy import aws  # noqa: PLC0415 same

    assert aws.session(region).region_name == region


def test_keys_cost_nothing_by_the_month() -> None:
    """In an account whose default is the advanced tier, at $0.05 each, too."""
    from botocore.stub import Stubber  # noqa: PLC0415 takes a while to import, which other tests need not pay

    client = client_of("ssm")
    wanted = {"Name": "/sailplane/acme/NAME", "Type": "SecureString", "Value": "v", "Tier": "Standard"}
    with Stubber(client) as ssm:
        ssm.add_response("put_parameter", {}, {**wanted, "Tags": [{"Key": "sailplane-deployment", "Value": "acme"}]})
        ssm.add_response("put_parameter", {}, {**wanted, "Overwrite": True})
        account_of(client).make_key(ACME, "NAME", "v")
        account_of(client).change_key(ACME, "NAME", "v")
        ssm.assert_no_pending_responses()
