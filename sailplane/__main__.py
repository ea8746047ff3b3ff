"""`python -m sailplane`: the console script, for where that is not on the path."""

from __future__ import annotations

from sailplane.cli import main

main()
