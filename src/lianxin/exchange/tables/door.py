"""The inbox's way back to a row: one that was refused or held becomes a piece once more, with the mapping that is in use now."""

from __future__ import annotations

import csv
import io
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft, Piece, Verdict
from lianxin.exchange.feeds.models import DROPPED, REFUSED, TAKEN, Arrival
from lianxin.exchange.tables import reading
from lianxin.exchange.tables.chunks import DOOR, Taker
from lianxin.exchange.tables.models import ACTIVE, TableMapping, TableRefusal, TableSource
from lianxin.exchange.tables.people import patient_of
from lianxin.exchange.tables.reading import Row
from lianxin.exchange.tables.stored import body_of
from lianxin.standards import clock
from lianxin.standards.text import T

_NO_SOURCE = T("表格来源已不存在。", "The source of the table is gone.")
_NO_MAPPING = T("该来源没有启用的列对应。", "The source has no mapping in use.")
_NOT_ONE = T(
    "这是一批行的原文，只有单独的行可以重新受理。",
    "These are many rows; only a single row can be taken again.",
)
_UNREADABLE = T(
    "该行的字节无法按 UTF-8 或 GB 18030 读出。", "The row's bytes are neither UTF-8 nor GB 18030."
)


def register() -> None:
    """Let the inbox replay rows."""
    inbox.register_door(DOOR, again)


def source_of(arrival: Arrival) -> TableSource:
    """The source an arrival came from; Refusal when it is gone."""
    kind, _, pk = arrival.sender.partition(":")
    found = (
        TableSource.objects.select_related("institution").filter(pk=int(pk)).first()
        if kind == "source" and pk.isdigit()
        else None
    )
    if found is None:
        raise Refusal("not-found", _NO_SOURCE)
    return found


def mapping_of(source: TableSource) -> TableMapping:
    """The mapping in use; Refusal when there is none."""
    found = TableMapping.objects.filter(source=source, state=ACTIVE).first()
    if found is None:
        raise Refusal("not-found", _NO_MAPPING)
    return found


def row_of(body: bytes, mapping: TableMapping) -> tuple[list[str], Row]:
    """Names of the columns and the one row in a kept body; Refusal when it is none."""
    text = reading.decoded(body, "utf-8") or reading.decoded(body, "gb18030")
    if text is None or "\x00" in text:
        raise Refusal("structure", _UNREADABLE)
    layout = mapping.rules["layout"]
    if not text.startswith("#,") and text.rstrip("\n") != "#":
        cells = next(csv.reader([text], delimiter=layout["delimiter"]), [])
        names = layout["columns"]
        row = Row(0, cells)
        if len(cells) != len(names):
            row.refusal = (reading.MANY if len(cells) > len(names) else reading.FEW).format(
                n=len(cells), m=len(names)
            )
        return names, row
    lines = list(csv.reader(io.StringIO(text, newline="")))
    if len(lines) != 2:
        raise Refusal("structure", _NOT_ONE)
    (_, *names), (number, *cells) = lines
    row = Row(int(number) if number.isdigit() else 0, cells)
    if len(cells) != len(names):
        row.refusal = (reading.MANY if len(cells) > len(names) else reading.FEW).format(
            n=len(cells), m=len(names)
        )
    return names, row


def again(arrival: Arrival) -> Piece:
    """The piece of a kept row."""
    return piece_of(source_of(arrival), inbox.body_of(arrival), arrival.control_id)


def piece_of(source: TableSource, body: bytes, control_id: str = "", account_id: int | None = None) -> Piece:
    """A row as a piece of its own."""
    from lianxin.exchange.tables.running import scope_of

    mapping = mapping_of(source)
    names, row = row_of(body, mapping)
    taker = Taker(source, mapping, names, scope_of(source, account_id))

    def understand(cur: Any) -> Draft:
        wrong, writes, values = taker.alone(cur, row)
        if wrong:
            column, text = wrong[0]
            raise Refusal("value", text, column)
        said = patient_of(values, taker.people.system)
        return Draft(writes=writes, mapping=taker.label, extra={"patient": said})

    return Piece(
        DOOR, source.target, control_id or taker.control_id(taker.converter.convert(row).values, row), body, f"source:{source.pk}",
        taker.scope, understand, locks=(f"table/{source.pk}",), reuses_ids=True,
    )  # fmt: skip


def mend(scope: Scope, arrival: Arrival, cells: list[str]) -> Verdict:
    """Take a refused row with its cells corrected by a person. The refused one is set aside when the corrected one is taken.

    Raises Refusal when the row cannot be read at all.
    """
    source = source_of(arrival)
    names, row = row_of(inbox.body_of(arrival), mapping_of(source))
    body = body_of(names, [Row(row.number, [c.replace("\x00", "") for c in cells])])
    verdict = inbox.take([piece_of(source, body, "", scope.account_id)])[0]
    with transaction.atomic():
        if verdict.state == TAKEN and verdict.arrival_id != arrival.pk:
            Arrival.objects.filter(pk=arrival.pk).exclude(state=TAKEN).update(
                state=DROPPED, done_at=clock.now()
            )
            TableRefusal.objects.filter(arrival=arrival).delete()
        elif verdict.state == REFUSED and verdict.arrival_id != arrival.pk:
            # one row has one entry among what was refused: the newest words of it
            Arrival.objects.filter(pk=arrival.pk, state=REFUSED).update(state=DROPPED, done_at=clock.now())
            TableRefusal.objects.filter(arrival=arrival).update(arrival_id=verdict.arrival_id)
        audit.write(
            scope, "update", person_id=verdict.person_id, what=f"arrival {arrival.pk} mended",
            detail={"state": verdict.state, "now": verdict.arrival_id},
        )  # fmt: skip
    return verdict
