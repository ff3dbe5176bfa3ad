"""Bring the shipped tables (``data/*.csv``: facts, with their source documents) into the database.

`load_shipped` runs after migrating and in tests that need codes: a few tenths of a second the first time, one statement
when nothing changed. A version the user imported himself is never touched: shipped versions have their own names.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
from pathlib import Path

from django.db import connection, transaction

from lianxin.standards import clock, codes, divisions
from lianxin.standards.models import CodeSystem, Division

DATA = Path(__file__).parent / "data"
DIVISION_URL = codes.BASE + "division"
LOCK = 0x4C58_5354  # advisory lock: two workers starting at once load once


def shipped() -> list[dict[str, str]]:
    """The shipped code systems: name, url, version, title, title_en, source, effective_from."""
    with (DATA / "systems.csv").open(encoding="utf-8", newline="") as file:
        return [{**row, "url": row["url"] or codes.BASE + row["name"]} for row in csv.DictReader(file)]


def _stamp() -> str:
    """SHA-256 of all shipped files, kept with the divisions' version: equal means nothing to do."""
    digest = hashlib.sha256()
    for path in sorted(DATA.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def load_shipped(*, force: bool = False) -> int:
    """Load what is shipped and not yet there; returns how many rows were written. Idempotent, safe to run at once."""
    stamp = _stamp()
    if not force and CodeSystem.objects.filter(url=DIVISION_URL, content_hash=stamp).exists():
        return 0
    written = 0
    with transaction.atomic():
        with connection.cursor() as cur:
            cur.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for row in shipped():
            report = codes.import_codes(
                DATA / f"{row['name']}.csv",
                row["url"],
                row["version"],
                dt.date.fromisoformat(row["effective_from"]),
                name=row["name"],
                title=row["title"],
                title_en=row["title_en"],
                source=row["source"],
            )
            if report.errors:  # shipped data is tested; this is a broken installation
                number, field, message = report.errors[0]
                raise ValueError(f"{row['name']}.csv row {number} {field}: {message.en}")
            codes.set_value_set(row["name"], row["title"], row["title_en"], [(row["url"], "")])
            written += report.created + report.updated
        written += _load_divisions(stamp)
    return written


def _load_divisions(stamp: str) -> int:
    with (DATA / "divisions.csv").open(encoding="utf-8", newline="") as file:
        rows = divisions.build((row["code"], row["name"]) for row in csv.DictReader(file))
    Division.objects.bulk_create(
        rows,
        batch_size=2000,
        update_conflicts=True,
        unique_fields=["code"],
        update_fields=["name", "level", "parent", "pinyin"],
    )
    CodeSystem.objects.update_or_create(
        url=DIVISION_URL,
        version="shipped",
        defaults={
            "name": "division",
            "title": "行政区划",
            "title_en": "Administrative divisions",
            "source": "GB/T 2260",
            "effective_from": dt.date(2010, 1, 1),
            "content_hash": stamp,
            "imported_at": clock.now(),
        },
    )
    return len(rows)
