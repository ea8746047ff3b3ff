"""One machine as EC2's RunInstances is asked for it. Pure: the same request always gives the same parameters.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import NoCapacity
from chalicelib.model import CapacityType, LaunchRequest, Offer, Replica
from chalicelib.providers.boot import DEFAULT_DISK_GIB

DEPLOYMENT_TAG, SERVICE_TAG, REPLICA_TAG = "sailplane-deployment", "sailplane-service", "sailplane-replica"

# The newest image of its kind in any region, found by EC2 itself through Systems Manager. Both are Ubuntu 24.04.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html (drivers, CUDA and docker with GPUs)
# https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html
_GPU_IMAGE = "/aws/service/deeplearning/ami/{architecture}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
_CPU_IMAGE = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{architecture}/hvm/ebs-gp3/ami-id"
_ROOT_DEVICE = "/dev/sda1"  # of both
# NVIDIA's open driver needs Turing or newer; these have older GPUs, and no Ubuntu image has a driver for them any more.
_TOO_OLD = frozenset({"p2", "p3", "p3dn", "g3", "g3s"})
# Graviton types have a g after the generation: m7g, g5g, im4gn, p6e-gb200 (whose processor is Grace); not g6, gr6.
_ARM = re.compile(r"^(a1|[a-z]+\d+[a-z-]*g[a-z0-9-]*)\.")

# https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html. gp3 has 3,000 IOPS and 125 MiB/s by itself.
_DISKS: Mapping[str, Mapping[str, str | int]] = {
    "": {"VolumeType": "gp3"},
    "low": {"VolumeType": "gp2"},
    "medium": {"VolumeType": "gp3"},
    "high": {"VolumeType": "gp3", "Iops": 6000, "Throughput": 500},
    "ultra": {"VolumeType": "io2", "Iops": 16000},
    "best": {"VolumeType": "gp3", "Iops": 16000, "Throughput": 1000},  # gp3's most before 2025; loads a model at 1 GB/s
}


def image_of(replica: Replica) -> str:
    """What to ask EC2 for as image. Raises `NoCapacity` for a type that no default image has a driver for."""
    offer, image_id = replica.offer, replica.requirement.image_id
    if image_id and not image_id.startswith("docker:"):  # the agent runs a container, on the default image
        return image_id
    arm = is_arm(offer.instance_type)
    if not offer.accelerator:
        return "resolve:ssm:" + _CPU_IMAGE.format(architecture="arm64" if arm else "amd64")
    if offer.instance_type.partition(".")[0] in _TOO_OLD:
        raise NoCapacity(
            f"AWS: no default image has a driver for {offer.instance_type}; set resources.image_id to an AMI"
        )
    return "resolve:ssm:" + _GPU_IMAGE.format(architecture="arm64" if arm else "x86_64")


def is_arm(instance_type: str) -> bool:
    """Whether a type's processor is Graviton or Grace, as its name says.

    https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
    """
    return _ARM.match(instance_type) is not None


def root_device(image: str) -> str:
    """The name of the root device of an image that is ours to choose; empty when EC2 has to be asked."""
    return _ROOT_DEVICE if image.startswith("resolve:ssm:") else ""


def parameters(
    deployment: str, request: LaunchRequest, user_data: str, *, image: str, root_device: str, group_id: str
) -> dict[str, Any]:
    """RunInstances' parameters for one machine that comes into being at most once."""
    replica = request.replica
    spot = replica.offer.capacity_type is CapacityType.SPOT
    return {
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": client_token(deployment, replica),
        "InstanceType": replica.offer.instance_type,
        "ImageId": image,
        "SecurityGroupIds": [group_id],
        "UserData": user_data,
        "BlockDeviceMappings": [{"DeviceName": root_device, "Ebs": _disk(replica)}],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": _tags(deployment, replica)}
            for kind in ("instance", "volume", "network-interface", *(["spot-instances-request"] if spot else []))
        ],
        # Version 2 only. One hop reaches the machine and containers in its own network, as the agent's are, and nothing else.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "InstanceInitiatedShutdownBehavior": "terminate",
        **_placement(replica.offer),
        **(_SPOT if spot else {}),
    }


# Without a maximum price the on-demand price is the limit, so EC2 never takes the machine for the money.
_SPOT = {
    "InstanceMarketOptions": {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
    }
}


def client_token(deployment: str, replica: Replica) -> str:
    """EC2's idempotency token, at most 64 characters: the same for every repetition of this launch, and for no other."""
    return hashlib.sha256(f"{deployment}/{replica.id}/{replica.boot_nonce}".encode()).hexdigest()


def _placement(offer: Offer) -> dict[str, Any]:
    zone = offer.location.zone
    return {"Placement": {"AvailabilityZoneId": zone}} if zone else {}


def _disk(replica: Replica) -> dict[str, Any]:
    wanted = replica.requirement
    size_gib = wanted.disk_size_gib or DEFAULT_DISK_GIB
    return {**_DISKS[wanted.disk_tier], "VolumeSize": size_gib, "Encrypted": True, "DeleteOnTermination": True}


def _tags(deployment: str, replica: Replica) -> list[dict[str, str]]:
    ours = {DEPLOYMENT_TAG: deployment, SERVICE_TAG: replica.service, REPLICA_TAG: replica.id}
    return [
        {"Key": key, "Value": value}
        for key, value in {"Name": replica.id, **dict(replica.requirement.labels), **ours}.items()
    ]
