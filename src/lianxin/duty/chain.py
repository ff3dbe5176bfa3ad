"""Canonical JSON and the SM3 chain of a case's acts.

Each act's hash covers its own content, its case and its predecessor's hash. Acts of a case are written while the case's
row is locked and UNIQUE(case, seq) holds, so a chain can neither fork nor lose a link unnoticed.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db.models import Model, QuerySet

from lianxin.access.seal import sm3
from lianxin.standards.text import Text

GENESIS = b"\0" * 32


def plain(value: Any) -> Any:
    """``value`` as JSON that survives a round trip through ``jsonb`` unchanged."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat(timespec="microseconds")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Text):
        return value.to_dict()
    if isinstance(value, Model):
        return value.pk
    if isinstance(value, UploadedFile):
        return {"name": value.name, "size": value.size}
    if isinstance(value, Mapping):
        lists = getattr(value, "lists", None)
        return {str(k): plain(v) for k, v in (lists() if lists else value.items())}
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if isinstance(value, list | tuple | QuerySet):
        return [plain(v) for v in value]
    if isinstance(value, Decimal):
        return str(value)
    return str(value)


def canonical(value: Any) -> bytes:
    """One byte sequence per JSON value: sorted keys, no blanks, UTF-8."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


HASHED = (
    "case_id", "seq", "move", "from_state", "to_state", "account_id", "client_id", "practitioner_id",
    "institution_id", "actor", "role", "at", "form", "outcome", "key", "request_hash",
)  # fmt: skip


def act_hash(act: Any, prev_hash: bytes) -> bytes:
    """SM3 over the predecessor's hash and every field of the act (32 bytes)."""
    return sm3(bytes(prev_hash) + canonical({name: getattr(act, name) for name in HASHED}))


def request_hash(case: str, move: str, form: Any, scope: Any) -> bytes:
    """What makes a request *this* request: case, move, form as sent, and who sent it."""
    sent = {k: v for k, v in plain(form or {}).items() if k != "csrfmiddlewaretoken"}
    who = [scope.account_id, scope.client_id, scope.institution_id]
    return sm3(canonical({"case": case, "move": move, "form": sent, "who": who}))
