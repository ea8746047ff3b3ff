"""What the control plane tells of itself and of its services: logs of JSON lines, and metrics (docs/observability.md)."""
