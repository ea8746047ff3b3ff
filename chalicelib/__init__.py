"""The control plane: everything that Lambda ships beside app.py."""

from __future__ import annotations

__version__ = "0.1.0"
