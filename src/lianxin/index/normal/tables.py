"""The data files of the normalisers, read once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent


def lines(name: str) -> list[str]:
    """Lines of ``data/<name>`` without comments and blank ones."""
    text = (_HERE / "data" / name).read_text("utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def classes(name: str) -> dict[str, str]:
    """Character -> the first of its line, for files whose lines are classes of equivalent characters."""
    out: dict[str, str] = {}
    for line in lines(name):
        for char in line[1:]:
            out.setdefault(char, out.get(line[0], line[0]))
    return out


@lru_cache(maxsize=1)
def fillers() -> dict[str, list[Any]]:
    """``fillers.yaml``: what people type when they do not know."""
    return yaml.load((_HERE / "fillers.yaml").read_text("utf-8"), yaml.CSafeLoader)
