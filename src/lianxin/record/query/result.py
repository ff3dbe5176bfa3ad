"""Rows of ``record_resource`` as results."""

from typing import Any

from lianxin.record.store import Result, opened

COLUMNS = "r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.rid, r.deleted"


def row_result(row: tuple[Any, ...]) -> Result:
    """A Result from :data:`COLUMNS`."""
    return Result(200, row[0], row[1], row[2], row[3], opened(row[0], row[4]), row[5], row[6], row[7])
