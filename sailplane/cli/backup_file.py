"""A backup as a file: a head, a line of JSON for each entry, and a last line by which a file that was cut off is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from chalicelib.api.schemas import Backup, BackupEntry
from chalicelib.backup import FORMAT
from chalicelib.errors import Invalid


@dataclass(frozen=True, slots=True)
class BackupFile:
    """What a backup holds, and of which control plane it is."""

    deployment: str
    url: str
    made_at: str
    entries: tuple[BackupEntry, ...]

    def of_kind(self, kind: str) -> tuple[BackupEntry, ...]:
        """The entries of one kind, in order."""
        return tuple(entry for entry in self.entries if entry.kind == kind)


def lines(pages: Iterable[Backup], url: str) -> Iterator[str]:
    """The file's lines, without line feeds, as the pages come. `url` tells two control planes of one name apart."""
    count = 0
    for number, page in enumerate(pages):
        if not number:
            head = {"sailplane_backup": page.format, "sailplane": page.sailplane, "deployment": page.deployment}
            yield json.dumps(head | {"url": url, "made_at": page.made_at.isoformat(timespec="seconds")})
        for entry in page.entries:
            count += 1
            yield entry.model_dump_json()
    yield json.dumps({"end": count})


def parse(text: str) -> BackupFile:
    """The file's content. Raises `Invalid` with what is wrong and where."""
    # Not `splitlines`, which takes the separators of Unicode for ends too: JSON holds them as they are.
    written = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    head, last = _object(written[0], 1) if written else {}, _object(written[-1], len(written)) if written else {}
    if "sailplane_backup" not in head:
        raise Invalid("This is no backup: its first line is not that of one. Make one with `sailplane export -o FILE`.")
    if head["sailplane_backup"] != FORMAT:
        wanted = f"This Sailplane reads format {FORMAT} of backups, and this one has {head['sailplane_backup']}"
        raise Invalid(f"{wanted}: use Sailplane {head.get('sailplane', 'of the same version')}.")
    entries = tuple(_entry(line, number) for number, line in enumerate(written[1:-1], start=2))
    if last.get("end") != len(entries):
        raise Invalid(
            f"The backup is cut off after line {len(written)}: a whole one's last line counts the others. Make it again."
        )
    deployment, url, made_at = (str(head.get(name, "")) for name in ("deployment", "url", "made_at"))
    return BackupFile(deployment, url, made_at, entries)


def _object(line: str, number: int) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise Invalid(f"Line {number} of the backup is not JSON: {error}. It may be cut off: make it again.") from error
    return found if isinstance(found, dict) else {}


def _entry(line: str, number: int) -> BackupEntry:
    try:
        return BackupEntry.model_validate_json(line)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Invalid(f"Line {number} of the backup is no entry of one: {told}.") from error
