"""The stains that can be ordered, as data (``data/stains.yaml``)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "routine": T("常规", "Routine"),
    "special": T("特殊染色", "Special stain"),
    "ihc": T("免疫组化", "Immunohistochemistry"),
}


@functools.cache
def all_stains() -> dict[str, dict[str, Any]]:
    """code → name, name_en, kind."""
    document = yaml.load(
        (Path(__file__).parent / "data" / "stains.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader
    )
    return dict(document["stains"])


def label(code: str) -> Text:
    """A stain in words; an unknown code stands as written."""
    row = all_stains().get(code)
    return Text(row["name"], row["name_en"]) if row else Text(code, code)


def choices() -> list[tuple[str, Text]]:
    """(code, words) of every stain."""
    return [(code, label(code)) for code in all_stains()]
