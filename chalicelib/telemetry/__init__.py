"""What the control plane tells of itself and of its services: logs of one JSON object a line, and metrics (docs/observability.md)."""
