"""How a command ends: the numbers that scripts may rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Exit codes. `meaning` is what `sailplane --help` prints beside them."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done"
    FAILURE = 1, "anything not named below; or you answered no"
    USAGE = 2, "the command line is wrong, or lacks something"
    INVALID = 3, "the service file or another input is wrong; nothing was changed"
    NOT_FOUND = 4, "there is no such service, replica or version"
    CONFLICT = 5, "the name is taken, or somebody else changed it at the same time"
    UNREACHABLE = 6, "the control plane does not answer"
    SERVICE_FAILED = 7, "the service itself failed"
    NO_MACHINE = 8, "no cloud gives a machine; the control plane goes on asking"
    DENIED = 9, "the key, or the cloud's credentials, are refused or may not do this"
    INTERRUPTED = 130, "stopped with Ctrl-C"
