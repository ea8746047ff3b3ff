"""What Google wants to be told of a machine type beyond its name: accelerators, disks, image.

Facts of the public documentation, as of November 2026:
https://cloud.google.com/compute/docs/gpus, https://cloud.google.com/compute/docs/disks/persistent-disks,
https://cloud.google.com/compute/docs/disks/hyperdisks, https://cloud.google.com/deep-learning-vm/docs/images.
"""

from __future__ import annotations

from chalicelib.model import Offer, Requirement

# Ubuntu with the driver, CUDA and docker. Branch 580 is the last for Pascal and Volta and knows all newer ones.
_GPU_IMAGE = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"
_CPU_IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"
_CONTAINER = "docker:"  # an image that the agent runs in a container, on the default image

# Other machine types with accelerators come with them; to N1 they are attached.
_ATTACHED_TO = "n1-"
_ATTACHED = {"T4": "nvidia-tesla-t4", "P4": "nvidia-tesla-p4", "P100": "nvidia-tesla-p100", "V100": "nvidia-tesla-v100"}

# By prefix of the machine type, the first that matches: the disk types of the tiers low, medium, high. No type of the
# catalog takes pd-extreme (N2 from 64 vCPUs on does). Types not named here are newer and take Hyperdisk only.
_DISKS = (
    (("n1-", "n2-", "e2-", "a2-"), ("pd-standard", "pd-balanced", "pd-ssd")),
    (("g2-", "a3-highgpu-", "a3-megagpu-"), ("pd-balanced", "pd-balanced", "pd-ssd")),
    (("",), ("hyperdisk-balanced",) * 3),
)
_TIERS = {"low": 0, "": 1, "medium": 1, "high": 2, "ultra": 2, "best": 2}


def attached_accelerator(offer: Offer) -> str:
    """Google's name for the accelerator to attach; empty when the machine type has none or brings its own.

    An accelerator that is not known here keeps its catalog name, which Google refuses by name.
    """
    if not offer.instance_type.startswith(_ATTACHED_TO):
        return ""
    return _ATTACHED.get(offer.accelerator, offer.accelerator)


def disk_type(instance_type: str, tier: str) -> str:
    """The boot disk of a tier (low, medium, high, ultra, best; medium when empty), or the nearest that the type takes."""
    disks = next(disks for prefixes, disks in _DISKS if instance_type.startswith(prefixes))
    return disks[_TIERS[tier]]


def image(offer: Offer, requirement: Requirement) -> str:
    """The user's image, by its URL; or the default one for the offer, which is also the one that runs containers."""
    if requirement.image_id and not requirement.image_id.startswith(_CONTAINER):
        return requirement.image_id
    return _GPU_IMAGE if offer.accelerator else _CPU_IMAGE
