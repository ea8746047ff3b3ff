"""`ports.Meter` on CloudWatch, to which Lambda, DynamoDB, SQS and the logs report what they will bill.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html: $0.01 for a thousand metrics, of which
one question takes some thirty. What is a few minutes old may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.cost import Usage
from chalicelib.errors import Unreachable

_Query = dict[str, Any]

_HOUR_S = 3600  # metrics of more than two weeks ago are kept by the hour
_QUEUE_REQUESTS = (
    "NumberOfMessagesSent",
    "NumberOfMessagesReceived",
    "NumberOfMessagesDeleted",
    "NumberOfEmptyReceives",
)


class CloudWatchMeter:
    """What one deployment's functions, table and queue have used.

    Args:
        deployment: the names of the functions and of the queue begin with `sailplane-<deployment>-`.
        table: the table's name.
        region: where they all are.
        memory: MB of each function, by the rest of its name.
    """

    def __init__(self, deployment: str, table: str, region: str, memory: Mapping[str, int]) -> None:
        config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
        self._client: Any = boto3.client("cloudwatch", region_name=region, config=config)
        self._deployment, self._table, self._memory = deployment, table, memory

    def used(self, since: float, until: float) -> Usage:
        """Between two instants in epoch seconds, by whole hours. Raises `Unreachable`."""
        asked = [*self._metrics()]
        queries: list[_Query] = [_query(f"m{number}", *metric[:3]) for number, (metric, _) in enumerate(asked)]
        try:
            sums = self._sums(queries, since, until)
        except (BotoCoreError, ClientError) as error:
            raise Unreachable(f"CloudWatch does not say what the control plane has used: {error}") from error
        return sum((unit * sums.get(f"m{number}", 0.0) for number, (_, unit) in enumerate(asked)), Usage())

    def _metrics(self) -> Iterator[tuple[tuple[str, str, Mapping[str, str]], Usage]]:
        """Every metric, and what one of it is."""
        for name, mb in self._memory.items():
            function = {"FunctionName": f"sailplane-{self._deployment}-{name}"}
            yield ("AWS/Lambda", "Invocations", function), Usage(requests=1)
            yield ("AWS/Lambda", "Duration", function), Usage(gb_s=mb / 1024 / 1e3)
            log = {"LogGroupName": f"/aws/lambda/sailplane-{self._deployment}-{name}"}
            yield ("AWS/Logs", "IncomingBytes", log), Usage(log_bytes=1)
        table = {"TableName": self._table}
        yield ("AWS/DynamoDB", "ConsumedReadCapacityUnits", table), Usage(read_units=1)
        yield ("AWS/DynamoDB", "ConsumedWriteCapacityUnits", table), Usage(write_units=1)
        for metric in _QUEUE_REQUESTS:
            queue = {"QueueName": f"sailplane-{self._deployment}-relay"}
            yield ("AWS/SQS", metric, queue), Usage(queue_requests=1)

    def _sums(self, queries: Sequence[_Query], since: float, until: float) -> Mapping[str, float]:
        sums: dict[str, float] = {}
        window: dict[str, Any] = {"StartTime": since, "EndTime": until}
        for page in self._client.get_paginator("get_metric_data").paginate(MetricDataQueries=queries, **window):
            for series in page["MetricDataResults"]:
                sums[series["Id"]] = sums.get(series["Id"], 0.0) + sum(series["Values"])
        return sums


def _query(name: str, namespace: str, metric: str, dimensions: Mapping[str, str]) -> _Query:
    named = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": named},
            "Period": _HOUR_S,
            "Stat": "Sum",
        },
    }
