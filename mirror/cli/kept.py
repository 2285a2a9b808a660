"""What the commands that look at kept pages share: opening the index, and showing times, sizes, long texts."""

from __future__ import annotations

import contextlib
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from mirror.errors import HomeError
from mirror.store import durable, rebuild
from mirror.store import home as homes
from mirror.store.home import Home
from mirror.store.index import Index

SHORT_ID = 8
"""Characters of a capture id that are shown; any unique beginning is understood."""


def open_index(place: Home) -> Index | None:
    """Open the home's index for reading; None if nothing was kept yet. Raises `HomeError`.

    What a killed `mirror save` sealed but did not index is brought in first, if the home can be written.
    """
    if not place.index_path.exists():
        if next(homes.captures(place), None) is None:
            return None
        raise HomeError("the index is missing; run `mirror index rebuild` to make it from the captures")
    if durable.is_abandoned(place.state):
        with contextlib.suppress(HomeError), homes.at_work(place) as was_left:
            if was_left:
                rebuild.catch_up_home(place)
    return Index.open(place.index_path, read_only=True)


def width() -> int | None:
    """Columns of the terminal, None when stdout is none: then nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def moment(text: str) -> str:
    """An RFC 3339 time as a person reads it: UTC, to the minute."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def human_size(size: int) -> str:
    """Bytes as `512 B`, `9.9 KB`, `12 MB` (powers of ten), at most 6 characters."""
    value, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "B" and value < 9.95 else f"{value:.0f} {unit}"


def nearby(path: Path) -> str:
    """`path` from the working directory on, when it is below it: shorter, and can still be pasted."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def shorten(text: str, columns: int) -> str:
    """Cut `text` to that many columns, with … at its end."""
    return text if len(text) <= columns else text[: max(1, columns) - 1] + "…"
