"""EC2's notices as they arrive through EventBridge, in the words of the core. Knows no SDK."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.model import InterruptionNotice, NoticeKind

# "two minutes before": https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
WARNING_S = 120.0

_ENDING = frozenset({"stopping", "stopped", "shutting-down", "terminated"})


def notice(detail_type: str, detail: Mapping[str, str], time: float) -> InterruptionNotice | None:
    """What an EC2 event says about a machine; None when it is not about one that goes.

    `detail_type`, `detail` and `time` (epoch seconds) are the event's own: `EC2 Spot Instance Interruption Warning`,
    `EC2 Instance Rebalance Recommendation` (.../UserGuide/rebalance-recommendations.html) or
    `EC2 Instance State-change Notification` (.../UserGuide/monitoring-instance-state-changes.html).
    """
    machine = detail["instance-id"]
    match detail_type:
        case "EC2 Spot Instance Interruption Warning":
            return InterruptionNotice("aws", NoticeKind.INTERRUPTION, time + WARNING_S, instance_id=machine)
        case "EC2 Instance Rebalance Recommendation":
            return InterruptionNotice("aws", NoticeKind.REBALANCE, time, instance_id=machine)
        case "EC2 Instance State-change Notification" if detail["state"] in _ENDING:
            return InterruptionNotice("aws", NoticeKind.ENDED, time, instance_id=machine)
    return None
