"""The entry point of a Google Cloud Function: `handle`."""

from __future__ import annotations

from edge_router.platforms import gcp

handle = gcp.view()
