"""Where the files are that packages are made of: in a checkout or, of an installed Sailplane, beside this one."""

from __future__ import annotations

from pathlib import Path

# Our packages lie in it side by side, in a checkout and installed.
ROOT = Path(__file__).parents[1]
# app.py, and what says which wheels are packed: pyproject.toml, requirements.txt, uv.lock. The wheel has them here, see
# pyproject.toml: at the top of an environment they would be anybody's.
TOP = Path(__file__).parent if Path(__file__).with_name("uv.lock").is_file() else ROOT
