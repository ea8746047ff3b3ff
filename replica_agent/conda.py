"""conda for scripts that name it. SkyPilot's machines have one ready to `activate`; the clouds' own images often have none."""

from __future__ import annotations

import re

_NAMED = re.compile(r"\bconda\b")
# Miniforge, because Anaconda's own installer comes with terms that a company has to accept. Installed once, by `setup`
# or `run`, whichever names it first; a script goes on without when it cannot be had, and then says what it misses.
# https://github.com/conda-forge/miniforge#as-part-of-a-ci-pipeline
_PRELUDE = r"""
_sailplane_conda() {
  local base installer
  for base in "$HOME/miniconda3" "$HOME/miniforge3" /opt/conda /opt/miniconda3; do
    if [ -f "$base/etc/profile.d/conda.sh" ]; then
      . "$base/etc/profile.d/conda.sh"
      return
    fi
  done
  base="$HOME/miniforge3"
  installer="$(mktemp)"
  echo "[sailplane] no conda on this machine: installing Miniforge into $base"
  curl -fsSL --retry 5 -o "$installer" \
    "https://github.com/conda-forge/miniforge/releases/latest/download/Miniforge3-$(uname)-$(uname -m).sh" &&
    bash "$installer" -b -p "$base" >/dev/null && . "$base/etc/profile.d/conda.sh"
  rm -f "$installer"
}
_sailplane_conda
"""


def with_conda(script: str) -> str:
    """The script with conda made ready before it, if it names conda at all."""
    return f"{_PRELUDE}\n{script}" if _NAMED.search(script) else script
