"""What a deployment costs: the model, what docs/cost.md says of it, and templates that would cost by the month."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import cost
from chalicelib.cost import FREE, Fleet, Usage
from infra import cost as deployed

DOCUMENT = Path(__file__).parent.parent / "docs" / "cost.md"


def usd(fleet: Fleet) -> float:
    return cost.total(cost.month(fleet)).usd


def test_nothing_is_used_without_a_service() -> None:
    """Idle, a deployment costs $0.00: not a request, not a byte."""
    assert cost.total(cost.month(Fleet(0, 0, routers=3))) == Usage()


def test_one_service_at_the_default_cadence_costs_less_than_a_dollar() -> None:
    """Without any free allowance; beyond AWS's it is a quarter, with a machine that is taken every other day too."""
    assert usd(Fleet(1, 1)) < 1
    assert cost.total(cost.month(Fleet(1, 1, replacements=15))).beyond(FREE).usd < 0.25


def test_ten_services_of_three_replicas_cost_less_than_twelve_dollars() -> None:
    """Without any allowance, with machines taken every other day and a router that is asked around the clock: less than eight."""
    assert usd(Fleet(10, 30, replacements=450)) < 4
    assert usd(Fleet(10, 30, replacements=450, routers=1)) < 8


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(0, 600), st.floats(1, 60), st.floats(0, 1e4), st.floats(0, 10))
def test_more_of_anything_never_costs_less(
    services: int, replicas: int, interval_s: float, replacements: float, routers: float
) -> None:
    """Services, replicas, replacements, routers and a shorter interval each only add."""
    fleet = Fleet(services, replicas, interval_s, replacements, routers)
    more = (
        Fleet(services + 1, replicas + replicas // services + 1, interval_s, replacements, routers),
        Fleet(services, replicas + 1, interval_s, replacements, routers),
        Fleet(services, replicas, max(1.0, interval_s / 2), replacements, routers),
        Fleet(services, replicas, interval_s, replacements + 1, routers),
        Fleet(services, replicas, interval_s, replacements, routers + 1),
    )
    assert all(usd(one) >= usd(fleet) - 1e-9 for one in more)


def test_the_bill_is_the_sum_of_its_kinds_at_their_prices() -> None:
    """A million of each, by hand from the price list."""
    million = Usage(1e6, 1e6, 1e6, 1e6, 1e6, 1e9, 1e6, 1e9)
    assert million.usd == pytest.approx(0.20 + 13.3334 + 0.125 + 0.625 + 0.40 + 0.50 + 0.40 + 0.09)
    assert million.beyond(million).usd == 0
    assert million.beyond(Usage(requests=4e5)).requests == 6e5


@pytest.mark.parametrize("table", ["sizes_table", "parts_table", "gateways_table"])
def test_the_document_says_what_the_model_says(table: str) -> None:
    """docs/cost.md holds the tables as they are reckoned now: `python -m infra.cost --plot docs/cost.png` makes them anew."""
    assert getattr(deployed, table)() in DOCUMENT.read_text()


def template(**properties: Any) -> dict[str, Any]:
    return {"Resources": {"One": properties}}


def test_what_is_free_while_idle_is_free() -> None:
    """Switched off or billed by use: nothing a month but the code's zips in their bucket, less than half a cent."""
    idle = {
        "Tick": {
            "Type": "AWS::Lambda::Function",
            "Properties": {"FunctionName": {"Fn::Sub": "x-tick"}, "MemorySize": 256},
        },
        "Rule": {"Type": "AWS::Events::Rule", "Properties": {"State": "DISABLED"}},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": {"BillingMode": "PAY_PER_REQUEST"}},
        "Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": {"Enabled": False}},
    }
    assert deployed.idle_usd({"Resources": idle}) == 0
    assert deployed.idle_usd({"Resources": idle}, code_bytes=100_000_000) < 0.005
    assert deployed.memory({"Resources": idle}) == {"tick": 256}


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("AWS::Events::Rule", {"State": "ENABLED"}),
        ("AWS::Events::Rule", {}),
        ("AWS::Lambda::EventSourceMapping", {}),
        ("AWS::DynamoDB::Table", {"BillingMode": "PROVISIONED"}),
        ("AWS::Logs::LogGroup", {}),
        ("AWS::SSM::Parameter", {"Tier": "Advanced"}),
        ("AWS::SSM::Parameter", {}),
        ("AWS::Lambda::Function", {"ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 1}}),
        ("AWS::EC2::NatGateway", {}),
        ("AWS::Serverless::Function", {"Events": {"Tick": {"Type": "Schedule", "Properties": {"State": "ENABLED"}}}}),
        ("AWS::Serverless::Function", {"Events": {"Relay": {"Type": "SQS", "Properties": {"Queue": "q"}}}}),
    ],
    ids=lambda value: value.split("::")[-1] if isinstance(value, str) else "".join(value) or "by default",
)
def test_what_would_cost_by_the_month_is_refused(kind: str, properties: dict[str, Any]) -> None:
    """On from the start, provisioned, kept for ever, or of a type whose price nobody has looked up."""
    with pytest.raises(ValueError, match="One: "):
        deployed.idle_usd(template(Type=kind, Properties=properties))


def test_secrets_and_keys_of_ones_own_have_their_price() -> None:
    """The ones that a deployment goes without."""
    assert deployed.idle_usd(template(Type="AWS::SecretsManager::Secret")) == 0.40
    assert deployed.idle_usd(template(Type="AWS::KMS::Key")) == 1.0
