"""A batch through its states: uploaded, checked, held or accepted, withdrawn.

A file is kept first (``uploaded``), then read in one transaction with its arrival in the common inbox (``checked``), then compared with
its control sheet in another: whatever is cut off is gone on with by the same act again, and counts nothing meanwhile.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import zstandard
from django.db import IntegrityError, connection, transaction
from django.db.models import Max

from lianxin.access import audit, seal
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft, Piece
from lianxin.exchange.feeds.models import SETTLEMENT, TAKEN, Arrival
from lianxin.exchange.settlement import control
from lianxin.exchange.settlement.control import Difference
from lianxin.exchange.settlement.loading import Loader
from lianxin.exchange.settlement.models import (
    ACCEPTED,
    CHECKED,
    HELD,
    REFUSED,
    UPLOADED,
    WITHDRAWN,
    SettlementBatch,
    SettlementControl,
    SettlementFile,
)
from lianxin.network.models import Consortium
from lianxin.network.roles import MANAGER
from lianxin.record import rows, store
from lianxin.standards import clock
from lianxin.standards.text import T

PIECE = 4 << 20
MAPPING = "settlement@1"
LEAST_REASON = 4
_LEFT = dt.timedelta(minutes=30)


# -------------------------------------------------------------------------------------------------------------------- keeping


def keep(
    scope: Scope,
    consortium: Consortium,
    detail: BinaryIO,
    name: str,
    sheet: BinaryIO | None = None,
    sheet_name: str = "",
) -> SettlementBatch:
    """Keep the files of a batch, exactly as they came; the same files again are the batch they were (unless it was withdrawn)."""
    same, same_control = _digest(detail), _digest(sheet) if sheet else bytes(16)
    known = {"consortium": consortium, "same": same, "same_control": same_control}
    try:
        with transaction.atomic():
            found = SettlementBatch.objects.filter(**known).exclude(state=WITHDRAWN).first()
            if found is not None:
                return found
            batch = SettlementBatch.objects.create(
                **known,
                institution_id=scope.institution_id,
                client_id=scope.client_id,
                account_id=scope.account_id,
                name=name[:200],
                control_name=sheet_name[:200],
                at=clock.now(),
            )
            _keep_file(batch, "detail", detail)
            if sheet is not None:
                _keep_file(batch, "control", sheet)
            audit.write(
                scope,
                "create",
                what=f"settlement batch {batch.pk}",
                detail={"did": "uploaded", "name": name[:200]},
            )
    except IntegrityError:  # somebody sent the same at the same moment
        return SettlementBatch.objects.exclude(state=WITHDRAWN).get(**known)
    return batch


def _digest(file: BinaryIO) -> bytes:
    file.seek(0)
    made = hashlib.sha256()
    while data := file.read(PIECE):
        made.update(data)
    return seal.blind(made.hexdigest(), "settlement-file")


def _keep_file(batch: SettlementBatch, role: str, file: BinaryIO) -> None:
    last = SettlementFile.objects.filter(batch=batch, role=role).aggregate(last=Max("number"))["last"]
    number = (
        0 if last is None else (last // 10_000 + 1) * 10_000
    )  # a sheet that was sent anew stands behind the old one
    file.seek(0)
    while data := file.read(PIECE):
        body = seal.seal_bytes(zstandard.compress(data, 3))
        SettlementFile.objects.create(batch=batch, role=role, number=number, body=body)
        number += 1


def pieces(batch: SettlementBatch, role: str) -> Iterator[bytes]:
    """A file of a batch as it came (of several control sheets the latest), in pieces."""
    kept = SettlementFile.objects.filter(batch=batch, role=role)
    last = kept.aggregate(last=Max("number"))["last"]
    if last is not None:
        for pk in (
            kept.filter(number__gte=last // 10_000 * 10_000).order_by("number").values_list("pk", flat=True)
        ):
            body = SettlementFile.objects.values_list("body", flat=True).get(pk=pk)
            yield zstandard.decompress(seal.unseal_bytes(bytes(body)))


def _spooled(batch: SettlementBatch, role: str) -> BinaryIO | None:
    """The file on disk, readable by this process alone and gone when it is closed; None when the batch has none."""
    out = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    size = 0
    for data in pieces(batch, role):
        size += out.write(data)
    out.seek(0)
    if size:
        return out
    out.close()
    return None


# ------------------------------------------------------------------------------------------------------------------ processing


def process(scope: Scope, batch: SettlementBatch) -> SettlementBatch:
    """Read, check and compare a batch that was kept, as far as it has not been; returns it as it stands then."""
    if batch.state in (UPLOADED, REFUSED):
        verdict = inbox.take([_piece(scope, batch)])[0]
        if verdict.state != TAKEN and verdict.reason is not None:
            told = {"code": verdict.reason.code, "zh": verdict.reason.text.zh, "en": verdict.reason.text.en}
            SettlementBatch.objects.filter(pk=batch.pk, state__in=(UPLOADED, REFUSED)).update(
                state=REFUSED, arrival_id=verdict.arrival_id, report={"refused": told}
            )
        else:
            SettlementBatch.objects.filter(pk=batch.pk, arrival_id__isnull=True).update(
                arrival_id=verdict.arrival_id
            )
    settle(batch.pk)
    return SettlementBatch.objects.select_related("consortium").get(pk=batch.pk)


def _piece(scope: Scope, batch: SettlementBatch) -> Piece:
    manifest = {
        "batch": batch.pk,
        "detail": batch.name,
        "control": batch.control_name,
        "same": bytes(batch.same).hex(),
    }
    who = (
        f"client:{scope.client_id}"
        if scope.client_id
        else f"account:{scope.account_id}"
        if scope.account_id
        else ""
    )
    return Piece(
        door=SETTLEMENT,
        kind="settlement",
        control_id=f"settlement/{batch.pk}",
        body=orjson.dumps(manifest),
        sender=who,
        scope=dataclasses.replace(scope, institution_id=batch.institution_id),
        understand=lambda cur: _understand(cur, batch.pk),
        client_id=batch.client_id,
        sent_at=batch.at,
        locks=(_lock(batch),),
    )


def _lock(batch: SettlementBatch) -> str:
    return f"settlement/{batch.consortium_id}"


def again(arrival: Arrival) -> Piece:
    """A batch that was refused, once more (after the layout learned its columns)."""
    manifest = orjson.loads(inbox.body_of(arrival))
    batch = SettlementBatch.objects.get(pk=manifest["batch"])
    made = _piece(Scope.system("settlement batch tried again"), batch)
    made.sender = arrival.sender
    return made


def _understand(cur: Any, pk: int) -> Draft:
    """The whole batch into the table; nothing when that was done before."""
    batch = SettlementBatch.objects.select_for_update().select_related("consortium").get(pk=pk)
    if batch.state not in (UPLOADED, REFUSED):
        return Draft(mapping=MAPPING, audited=True)
    detail, sheet = _spooled(batch, "detail"), _spooled(batch, "control")
    try:
        if detail is None:
            raise Refusal("required", T("文件是空的。", "The file is empty."))
        lines = control.read(sheet) if sheet is not None else []
        loader = Loader(rows.server_cursor(cur), batch)
        out = loader.load(detail)
        _put(batch, lines)
        loader.reversals()
    finally:
        for file in (detail, sheet):
            if file is not None:
                file.close()
    batch.state, batch.checked_at = CHECKED, clock.now()
    batch.rows, batch.rejected, batch.total, batch.fund = out.rows, out.rejected, out.total, out.fund
    batch.first_day, batch.last_day = out.days or (None, None)
    batch.report = out.report()
    batch.save()
    return Draft(mapping=MAPPING, found=out.found(), audited=True, extra=out)


def _put(batch: SettlementBatch, lines: list[SettlementControl]) -> None:
    SettlementControl.objects.filter(batch=batch).delete()
    for line in lines:
        line.batch = batch
    SettlementControl.objects.bulk_create(lines, batch_size=5_000)


def settle(pk: int) -> list[Difference]:
    """Compare a checked batch with its sheet: accepted when they agree to the fen, else held. Others are left as they are."""
    with transaction.atomic(), connection.cursor() as own:
        batch = _locked(own, pk)
        if batch.state not in (CHECKED, HELD):
            return []
        found = control.compare(batch)
        batch.differences, batch.decided_at = len(found), clock.now()
        if found:
            batch.state = HELD
        else:
            _accept(own, batch)
        batch.save()
        return found


def _locked(cur: Any, pk: int) -> SettlementBatch:
    batch = SettlementBatch.objects.get(pk=pk)
    store.lock(rows.server_cursor(cur), [_lock(batch)])
    return SettlementBatch.objects.select_for_update(of=("self",)).select_related("consortium").get(pk=pk)


# Mine take the place of those that stand for the same settlement and are of a batch that does not count, or say something else.
_TAKE = """
WITH taken AS (
  SELECT m.id AS mine, h.id AS held FROM exchange_settlementline m
  JOIN exchange_settlementline h ON h.consortium_id = m.consortium_id AND h.settlement_id = m.settlement_id AND h.current
  JOIN exchange_settlementbatch b ON b.id = h.batch_id
  WHERE m.batch_id = %(batch)s AND NOT m.current AND (b.state <> 'accepted' OR h.digest <> m.digest)
), gone AS (UPDATE exchange_settlementline SET current = false WHERE id IN (SELECT held FROM taken) RETURNING id)
SELECT coalesce(array_agg(mine), '{}') FROM taken, (SELECT count(*) FROM gone) AS n
"""
# What a withdrawn batch stood for goes back to the latest batch that still counts.
_GIVE_BACK = """
WITH mine AS (
  SELECT m.id, o.id AS other FROM exchange_settlementline m
  JOIN LATERAL (
    SELECT o.id FROM exchange_settlementline o JOIN exchange_settlementbatch b ON b.id = o.batch_id
    WHERE o.consortium_id = m.consortium_id AND o.settlement_id = m.settlement_id AND o.batch_id <> m.batch_id
      AND b.state = 'accepted' ORDER BY b.decided_at DESC, b.id DESC LIMIT 1) o ON true
  WHERE m.batch_id = %(batch)s AND m.current
), gone AS (UPDATE exchange_settlementline SET current = false WHERE id IN (SELECT id FROM mine) RETURNING id)
SELECT coalesce(array_agg(other), '{}') FROM mine, (SELECT count(*) FROM gone) AS n
"""


def _hand_over(cur: Any, statement: str, batch: SettlementBatch) -> None:
    cur.execute(statement, {"batch": batch.pk})
    (chosen,) = cur.fetchone()
    if chosen:
        cur.execute("UPDATE exchange_settlementline SET current = true WHERE id = ANY(%s)", [chosen])


def _accept(cur: Any, batch: SettlementBatch) -> None:
    _hand_over(cur, _TAKE, batch)
    batch.state = ACCEPTED


# ------------------------------------------------------------------------------------------------------------- what people decide


def demand_manager(scope: Scope) -> None:
    """Money is the consortium office's: who keeps the systems may not accept a difference or withdraw a batch."""
    if not scope.has(MANAGER) and not scope.everything:
        raise NotPermitted(
            T(
                "由医共体办办理，您当前岗位没有此权限。",
                "This belongs to the consortium office; your present post does not include it.",
            )
        )


def _reason(text: str) -> str:
    plain = " ".join(text.split())
    if len(plain) < LEAST_REASON:
        raise Refusal("required", T("请说明理由。", "Give the reason."), "reason")
    return plain[:2000]


def accept(scope: Scope, pk: int, reason: str) -> SettlementBatch:
    """Count a held batch in spite of its differences, for a reason; audited with it."""
    demand_manager(scope)
    why = _reason(reason)
    with transaction.atomic(), connection.cursor() as own:
        batch = _locked(own, pk)
        if batch.state != HELD:
            raise Refusal("conflict", T("该批次不在待处理状态。", "This batch does not wait for a decision."))
        batch.reason, batch.decided_at, batch.decided_by_id = why, clock.now(), scope.account_id
        _accept(own, batch)
        batch.save()
        detail = {"did": "accepted with differences", "differences": batch.differences, "why": why}
        audit.write(scope, "admin", what=f"settlement batch {pk}", detail=detail)
    return batch


def withdraw(scope: Scope, pk: int, reason: str) -> SettlementBatch:
    """Take a batch out of the count for good; what it changed is again what it was. Audited with the reason."""
    demand_manager(scope)
    why = _reason(reason)
    with transaction.atomic(), connection.cursor() as own:
        batch = _locked(own, pk)
        if batch.state == WITHDRAWN:
            return batch
        was = batch.state
        batch.state, batch.reason, batch.decided_at = WITHDRAWN, why, clock.now()
        batch.decided_by_id = scope.account_id
        batch.save()
        if was == ACCEPTED:
            _hand_over(own, _GIVE_BACK, batch)
        audit.write(
            scope, "admin", what=f"settlement batch {pk}", detail={"did": "withdrawn", "was": was, "why": why}
        )
    return batch


def new_sheet(scope: Scope, pk: int, sheet: BinaryIO, name: str) -> SettlementBatch:
    """Compare a held batch with a corrected control sheet; the earlier one is kept."""
    lines = control.read(sheet)
    with transaction.atomic(), connection.cursor() as own:
        batch = _locked(own, pk)
        if batch.state != HELD:
            raise Refusal("conflict", T("该批次不在待处理状态。", "This batch does not wait for a decision."))
        _keep_file(batch, "control", sheet)
        _put(batch, lines)
        batch.same_control, batch.control_name = _digest(sheet), name[:200]
        batch.save()
        audit.write(
            scope,
            "update",
            what=f"settlement batch {pk}",
            detail={"did": "new control sheet", "name": name[:200]},
        )
    settle(pk)
    return SettlementBatch.objects.select_related("consortium").get(pk=pk)


def take(
    scope: Scope,
    consortium: Consortium,
    detail: Path,
    sheet: Path | None = None,
    name: str = "",
    sheet_name: str = "",
) -> SettlementBatch:
    """Keep and process files that lie on disk."""
    with detail.open("rb") as file:
        if sheet is None:
            batch = keep(scope, consortium, file, name or detail.name)
        else:
            with sheet.open("rb") as other:
                batch = keep(scope, consortium, file, name or detail.name, other, sheet_name or sheet.name)
    return process(scope, batch)


def resume() -> int:
    """Go on with batches that a process left behind (periodic): read what was kept, compare what was read."""
    left = SettlementBatch.objects.filter(
        state__in=(UPLOADED, CHECKED), at__lt=clock.now() - _LEFT
    ).select_related("consortium")
    for batch in left:
        process(
            dataclasses.replace(
                Scope.system("settlement batch resumed"), institution_id=batch.institution_id
            ),
            batch,
        )
    return len(left)


def check() -> list[str]:
    """For ``lianxin check``: the totals of every batch are those of its lines."""
    with connection.cursor() as cur:
        cur.execute(
            "SELECT b.id, b.rows, b.total, b.fund, count(l.id), coalesce(sum(l.total), 0), coalesce(sum(l.fund), 0)"
            " FROM exchange_settlementbatch b LEFT JOIN exchange_settlementline l ON l.batch_id = b.id"
            " GROUP BY b.id HAVING (b.rows, b.total, b.fund) IS DISTINCT FROM"
            " (count(l.id), coalesce(sum(l.total), 0), coalesce(sum(l.fund), 0)) ORDER BY b.id"
        )
        return [
            f"settlement batch {pk}: says {rows}/{total}/{fund}, its lines are {n}/{t}/{f}"
            for pk, rows, total, fund, n, t, f in cur.fetchall()
        ]
