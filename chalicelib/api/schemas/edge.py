"""What routers tell and are told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from chalicelib.api.schemas.fields import INTEGRAL, Body, Count, EpochSecond
from chalicelib.api.schemas.keys import MOST_KEYS


class Exchange(Body):
    """What a router counted since the last exchange that was answered, and which table it has.

    `requests`: service -> [[epoch second, count], …]. The batch is resent unchanged, with its `seq`, until it is answered.
    `used`: id of an endpoint key -> epoch second of its last use. `on_demand`: a function, which reports when it is asked for
    something; its silence is no load. `age_s`: how long ago the batch was closed, if it is handed over again.
    """

    router_id: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9_.]{0,63}$")]
    seq: Annotated[int, Field(ge=0, le=2**53, strict=True), INTEGRAL]
    requests: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=64)],
            Annotated[list[tuple[EpochSecond, Count]], Field(max_length=3600)],
        ],
        Field(max_length=1000),
    ]
    etag: Annotated[str, StringConstraints(max_length=128)] | None = None
    used: Annotated[
        dict[Annotated[str, StringConstraints(max_length=64)], Annotated[float, Field(ge=0, le=1e11)]],
        # Keys come and go while a batch waits, and one that is refused would be sent again, as it is, for ever.
        Field(max_length=10 * MOST_KEYS),
    ] = Field(default_factory=dict)
    on_demand: Annotated[bool, Field(strict=True)] = False
    age_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
