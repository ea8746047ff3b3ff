"""What wakes functions on AWS: two rules of EventBridge, and a queue. Their names follow from the deployment's."""

from __future__ import annotations

import time
from collections.abc import Callable

from chalicelib.amazon import Amazon, Refused
from chalicelib.errors import Unreachable

# A mapping that was told something else shortly before takes no word until that is done, which takes seconds.
_TURNS = 10
_BUSY = "ResourceInUseException"
# States of a mapping that is, or will be by itself. Of one that is Creating or Updating nobody knows which way it goes.
ON, _OFF = ("Enabled", "Enabling"), ("Disabled", "Disabling", "Deleting")


class AwsSchedule:
    """`ports.Schedule`.

    The minute's rule is turned on first and off last: as long as it is on, a tick that finds nothing to do turns the rest off
    again, should its predecessor have ended halfway.

    Args:
        amazon: the deployment's own region.
        deployment: its name.
        mapping: the UUID of the event source mapping between the queue and its function.
        pause: waits a second; sleeps by default.
    """

    def __init__(
        self, amazon: Amazon, deployment: str, mapping: str, pause: Callable[[], None] = lambda: time.sleep(1.0)
    ) -> None:
        self._amazon = amazon
        self._rules = (f"sailplane-{deployment}-tick", f"sailplane-{deployment}-interrupt")
        self._mapping = f"/2015-03-31/event-source-mappings/{mapping}"
        self._pause = pause

    def on(self) -> None:
        for rule in self._rules:
            self._amazon.act("events", "AWSEvents.EnableRule", {"Name": rule})
        self._deliver(is_wanted=True)

    def off(self) -> None:
        self._deliver(is_wanted=False)
        for rule in reversed(self._rules):
            self._amazon.act("events", "AWSEvents.DisableRule", {"Name": rule})

    def _deliver(self, *, is_wanted: bool) -> None:
        """Have the queue's messages delivered, or not. A mapping that polls an empty queue all month costs $0.26."""
        for turn in range(_TURNS):
            if turn:
                self._pause()
            if self._amazon.ask("lambda", "GET", self._mapping)["State"] in (ON if is_wanted else _OFF):
                return
            try:
                self._amazon.ask("lambda", "PUT", self._mapping, {"Enabled": is_wanted})
            except Refused as error:
                if error.code != _BUSY:
                    raise
            else:
                return
        raise Unreachable("The relay's queue is still busy with what it was told last. Try again.")


class AwsRelay:
    """`ports.Relay`: a queue with a function behind it.

    Args:
        amazon: the deployment's own region.
        deployment: its name.
        queue_url: as SQS gives it.
    """

    def __init__(self, amazon: Amazon, deployment: str, queue_url: str) -> None:
        self._amazon = amazon
        self._function = f"sailplane-{deployment}-relay"
        self._queue_url = queue_url

    def send(self, body: str, delay_s: int) -> None:
        message = {"QueueUrl": self._queue_url, "MessageBody": body, "DelaySeconds": delay_s}
        self._amazon.act("sqs", "AmazonSQS.SendMessage", message)

    def send_now(self, body: str) -> None:
        """Past the queue, which may be off, and takes a second where this takes milliseconds. Lambda's own queue has it then.

        Raises `Unreachable`. See https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
        """
        event = {"Records": [{"body": body, "receiptHandle": ""}]}
        path = f"/2015-03-31/functions/{self._function}/invocations"
        self._amazon.ask("lambda", "POST", path, event, {"X-Amz-Invocation-Type": "Event"})
