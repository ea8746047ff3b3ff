"""The Azure Functions of this app: one, for every path."""

from __future__ import annotations

from edge_router.platforms import azure

app = azure.app()
