"""AWS on this machine: moto's EC2 behind what it lacks (docs/adr/0010-clouds-in-a-box.md)."""

from tests.clouds.aws.box import AwsBox

__all__ = ["AwsBox"]
