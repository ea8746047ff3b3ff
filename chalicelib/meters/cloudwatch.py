"""`ports.Meter` on CloudWatch, to which Lambda, DynamoDB, SQS and the logs report what they will bill.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html: $0.01 for a thousand metrics, of which
one question takes some twenty. What is a few minutes old may be missing, so an answer is good for some: whoever may read
costs cannot run up a bill by asking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chalicelib.amazon import Amazon
from chalicelib.cost import Usage

_HEADERS = {
    "X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData",
    "Content-Type": "application/x-amz-json-1.0",
}
_HOUR_S = 3600  # metrics of more than two weeks ago are kept by the hour at the least
# Who asks once a second all month makes one function pay $1 and not $600, at 24 metrics a question.
_KEPT_S = 600.0
_QUEUE_REQUESTS = (
    "NumberOfMessagesSent",
    "NumberOfMessagesReceived",
    "NumberOfMessagesDeleted",
    "NumberOfEmptyReceives",
)


class CloudWatchMeter:
    """What one deployment's functions, table and queue have used.

    Args:
        amazon: the deployment's own region.
        deployment: the names of the functions and of the queue begin with `sailplane-<deployment>-`.
        table: the table's name.
        memory: MB of each function, by the rest of its name.
    """

    def __init__(self, amazon: Amazon, deployment: str, table: str, memory: Mapping[str, int]) -> None:
        self._amazon = amazon
        self._deployment, self._table, self._memory = deployment, table, memory
        self._kept: tuple[float, float, Usage] | None = None

    def used(self, since: float, until: float) -> Usage:
        """Between two instants in epoch seconds, by whole hours; what was asked less than ten minutes ago counts as now.

        Raises `Unreachable`.
        """
        if self._kept:
            kept_since, kept_until, kept = self._kept
            if since == kept_since and until < kept_until + _KEPT_S:
                return kept
        used = self._asked(since, until)
        self._kept = since, until, used
        return used

    def _asked(self, since: float, until: float) -> Usage:
        units = {f"m{number}": unit for number, (_, unit) in enumerate(self._metrics())}
        queries = [_query(f"m{number}", *metric) for number, (metric, _) in enumerate(self._metrics())]
        question = {"MetricDataQueries": queries, "StartTime": since, "EndTime": until}
        used, token = Usage(), ""
        while True:
            page = self._amazon.ask(
                "monitoring", "POST", "/", question | ({"NextToken": token} if token else {}), _HEADERS
            )
            for series in page["MetricDataResults"]:
                used += units[series["Id"]] * sum(series["Values"])
            token = page.get("NextToken", "")
            if not token:
                return used

    def _metrics(self) -> Iterator[tuple[tuple[str, str, str, str], Usage]]:
        """Every metric with its namespace and its dimension, and what one of it is."""
        for name, mb in self._memory.items():
            function = f"sailplane-{self._deployment}-{name}"
            yield ("AWS/Lambda", "Invocations", "FunctionName", function), Usage(requests=1)
            yield ("AWS/Lambda", "Duration", "FunctionName", function), Usage(gb_s=mb / 1024 / 1e3)
            yield ("AWS/Logs", "IncomingBytes", "LogGroupName", f"/aws/lambda/{function}"), Usage(log_bytes=1)
        yield ("AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", self._table), Usage(read_units=1)
        yield ("AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", self._table), Usage(write_units=1)
        for metric in _QUEUE_REQUESTS:
            yield ("AWS/SQS", metric, "QueueName", f"sailplane-{self._deployment}-relay"), Usage(queue_requests=1)


def _query(query_id: str, namespace: str, metric: str, dimension: str, value: str) -> dict[str, Any]:
    named = {"Namespace": namespace, "MetricName": metric, "Dimensions": [{"Name": dimension, "Value": value}]}
    return {"Id": query_id, "MetricStat": {"Metric": named, "Period": _HOUR_S, "Stat": "Sum"}}
