"""What the platform ships to be ordered: loaded after migrate; loading again changes only what the file changed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from lianxin.regional.reading.models import Item

_FILE = Path(__file__).parent / "data" / "items.yaml"


@functools.cache
def shipped() -> list[dict[str, Any]]:
    """The rows of the file."""
    return list(yaml.load(_FILE.read_text("utf-8"), Loader=yaml.CSafeLoader)["items"])


def load_shipped(**_: Any) -> None:
    """Insert or refresh the shipped items."""
    rows = [Item(**row) for row in shipped()]
    fields = [
        "centre",
        "modality",
        "name",
        "name_en",
        "body_part",
        "specimen",
        "loinc",
        "group",
        "fee_fen",
        "double_read",
    ]
    Item.objects.bulk_create(rows, update_conflicts=True, unique_fields=["code"], update_fields=fields)
