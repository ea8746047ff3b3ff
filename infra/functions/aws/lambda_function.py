"""Lambda's entry point: handler `lambda_function.handler`."""

from __future__ import annotations

from edge_router.platforms import aws

handler = aws.handler()
