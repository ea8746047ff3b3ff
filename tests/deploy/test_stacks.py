"""What is said of a stack's events, which come newest first."""

from __future__ import annotations

from sailplane.deploy import stacks
from sailplane.deploy.account import Event, Stack

STACK = "AWS::CloudFormation::Stack"
# Oldest first, to be read: an update that went wrong, and a later one that is going wrong.
EVENTS = [
    Event("acme", STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
    Event("Edge", "AWS::Lambda::Function", "UPDATE_FAILED", "of the update before"),
    Event("acme", STACK, "UPDATE_ROLLBACK_COMPLETE"),
    Event("acme", STACK, "UPDATE_IN_PROGRESS", "User Initiated"),
    Event("Role", "AWS::IAM::Role", "CREATE_COMPLETE"),
    Event("Queue", "AWS::SQS::Queue", "CREATE_FAILED", "Resource creation cancelled"),
    Event("Api", "AWS::Lambda::Function", "CREATE_FAILED", "there is no such handler"),
    Event("Table", "AWS::DynamoDB::Table", "UPDATE_FAILED", "Resource update cancelled"),
    Event("Tick", "AWS::Lambda::Function", "CREATE_FAILED", "nor such a one"),
    Event("acme", STACK, "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Api, Tick]."),
]


def test_the_cause_is_the_first_resource_that_failed_by_itself() -> None:
    """Of this operation; those that were cancelled for its sake are not to blame, whenever they are told."""
    failed = Stack("id", "UPDATE_ROLLBACK_COMPLETE", "some reason")
    assert stacks.cause(reversed(EVENTS), failed) == "Api (AWS::Lambda::Function): there is no such handler"


def test_without_a_failed_resource_the_stack_speaks_for_itself() -> None:
    """By its reason, or by its status."""
    quiet = EVENTS[3:5]
    assert stacks.cause(reversed(quiet), Stack("id", "ROLLBACK_COMPLETE", "no rights")) == "no rights"
    assert stacks.cause(reversed(quiet), Stack("id", "ROLLBACK_COMPLETE")) == "ROLLBACK_COMPLETE"


def test_progress_is_the_end_of_this_operation_oldest_first() -> None:
    """As many lines as one can follow, none about the stack itself."""
    assert stacks.progress(reversed(EVENTS[:5])) == ["create complete: Role"]
    assert stacks.progress(reversed(EVENTS))[-1] == "create failed: Tick"
    assert len(stacks.progress(reversed(EVENTS * 3))) <= stacks.SHOWN_EVENTS
