"""Proofs over the ledger: cases rebuilt from their acts, chains verified, anchors recomputed.

Only ``outcome`` of the acts is used for rebuilding; whatever disagrees with the rows is reported by case number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

from django.db import connection, transaction

from lianxin.access.seal import sm3
from lianxin.duty import chain
from lianxin.duty.models import Act, Anchor, Case, CaseParty, Duty
from lianxin.standards import clock

_BATCH = 500


def fold(acts: Iterable[Act]) -> dict[str, Any]:
    """State, owner, due, priority, facts, parties and open duties after these acts (in order of seq)."""
    now: dict[str, Any] = {"version": 0, "duties": {}}
    for act in acts:
        said = act.outcome
        duties = now["duties"]
        for kind in said["duties"]["ended"]:
            duties.pop(kind, None)
        for kind, changed in said["duties"]["changed"].items():
            duties[kind] = duties[kind] | changed
        duties.update({kind: dict(opened) for kind, opened in said["duties"]["opened"].items()})
        now = {
            "version": act.seq,
            "state": said["state"],
            "owner": said["owner"],
            "due": said["due"],
            "priority": said["priority"],
            "pathway_start": said["pathway_start"],
            "facts": said["facts"],
            "parties": said["parties"],
            "duties": duties,
        }
    return now


def replay(case: Case) -> dict[str, Any]:
    """The case rebuilt from its acts alone."""
    return fold(Act.objects.filter(case=case).order_by("seq"))


def standing(case: Case, duties: Iterable[Duty], parties: Iterable[CaseParty]) -> dict[str, Any]:
    """The case as its rows say, in the shape of :func:`fold`."""
    return chain.plain(
        {
            "version": case.version,
            "state": case.state,
            "owner": [case.owner_institution_id, case.owner_role] if case.owner_institution_id else None,
            "due": case.due_at,
            "priority": case.priority,
            "pathway_start": case.pathway_start,
            "facts": case.facts,
            "parties": {p.part: p.institution_id for p in parties},
            "duties": {
                d.kind: {
                    "institution": d.owner_institution_id,
                    "role": d.owner_role,
                    "party": d.party,
                    "due_at": d.due_at,
                    "paused_since": d.paused_since,
                    "pause_until": d.pause_until,
                    "paused_minutes": d.paused_minutes,
                    "spec": d.spec,
                }
                for d in duties
            },
        }
    )


def _chain_faults(case: Case, acts: list[Act]) -> Iterator[str]:
    previous = chain.GENESIS
    for n, act in enumerate(acts, 1):
        if act.seq != n:
            yield f"{case.number}: act {n} is missing"
            return
        if bytes(act.prev_hash) != previous or bytes(act.hash) != chain.act_hash(act, previous):
            yield f"{case.number}: act {n} was altered, its hash does not fit"
            return
        previous = bytes(act.hash)
    if bytes(case.head_hash) != previous or case.head_seq != len(acts):
        yield f"{case.number}: the head does not fit the last act"


def _case_faults(case: Case, acts: list[Act], duties: list[Duty], parties: list[CaseParty]) -> Iterator[str]:
    yield from _chain_faults(case, acts)
    told, held = fold(acts), standing(case, duties, parties)
    for name in held:
        if told.get(name) != held[name]:
            yield f"{case.number}: {name} is {held[name]!r}, its acts say {told.get(name)!r}"
    if case.terminal and duties:
        yield f"{case.number}: closed, yet duties are open"
    if not case.terminal and not duties:
        yield f"{case.number}: open, yet nobody owes anything"


def _group(rows: Iterable[Any]) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.case_id, []).append(row)
    return grouped


_UNSEEN = """
SELECT DISTINCT c.number, d.owner_institution_id FROM duty_duty d JOIN duty_case c ON c.id = d.case_id
 WHERE d.ended = '' AND d.person_id IS NOT NULL AND NOT EXISTS (
       SELECT 1 FROM access_relationship r WHERE r.person_id = d.person_id AND r.institution_id = d.owner_institution_id
          AND r.source = 'duty:' || d.case_id || ':' || d.owner_institution_id AND r.until IS NULL)
 ORDER BY 1 LIMIT 100"""


def check() -> list[str]:
    """Verify every case: chain, rebuilt state, owner, due, parties, duties, access; one line per disagreement."""
    problems: list[str] = []
    last = 0
    while True:
        with transaction.atomic():
            with (
                connection.cursor() as cursor
            ):  # one snapshot per batch, so that a running move is no disagreement
                if not connection.savepoint_ids:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cases = list(
                Case.objects.unscoped("the proof looks at every case")
                .filter(pk__gt=last)
                .order_by("pk")[:_BATCH]
            )
            ids = [c.pk for c in cases]
            acts = _group(Act.objects.filter(case_id__in=ids).order_by("case_id", "seq"))
            open_duties = Duty.objects.unscoped("the proof looks at every duty").filter(
                case_id__in=ids, ended=""
            )
            duties = _group(open_duties)
            parties = _group(CaseParty.objects.filter(case_id__in=ids, until_seq=None))
        for case in cases:
            pk = case.pk
            problems += _case_faults(case, acts.get(pk, []), duties.get(pk, []), parties.get(pk, []))
        if len(cases) < _BATCH:
            break
        last = ids[-1]
    with connection.cursor() as cursor:
        cursor.execute(_UNSEEN)
        problems += [
            f"{number}: institution {i} owes a duty but has no access" for number, i in cursor.fetchall()
        ]
    return problems


# ---------------------------------------------------------------- anchors


def _digest(after: int, upto: int) -> tuple[int, bytes]:
    """How many acts lie in (after, upto], and SM3 over case, seq and hash of each in order."""
    count, digest = 0, chain.GENESIS
    rows = Act.objects.filter(pk__gt=after, pk__lte=upto).order_by("pk")
    chunk: list[bytes] = []
    for case_id, seq, act_hash in rows.values_list("case_id", "seq", "hash").iterator(2000):
        chunk.append(case_id.to_bytes(8, "big") + seq.to_bytes(4, "big") + bytes(act_hash))
        count += 1
        if len(chunk) == 1000:
            digest, chunk = sm3(digest + b"".join(chunk)), []
    return count, sm3(digest + b"".join(chunk))


def _sealed(prev: bytes, day: dt.date, after: int, upto: int, count: int, digest: bytes) -> bytes:
    return sm3(bytes(prev) + chain.canonical([day, after, upto, count]) + digest)


def anchor(day: dt.date) -> Anchor | None:
    """Anchor every act since the last anchor under ``day`` (once a day; None when that day has its anchor already).

    Writers are held for a moment while the last act's number is read, so no act with a lower number can come later.
    """
    if Anchor.objects.filter(day__gte=day).exists():
        return None
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE duty_act IN SHARE MODE")
        cursor.execute("SELECT coalesce(max(id), 0) FROM duty_act")
        upto = cursor.fetchone()[0]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE duty_anchor IN SHARE ROW EXCLUSIVE MODE")
        previous = Anchor.objects.order_by("-day").first()
        if previous is not None and previous.day >= day:
            return None
        after = previous.upto_act if previous else 0
        count, digest = _digest(after, upto)
        prev_hash = bytes(previous.hash) if previous else chain.GENESIS
        return Anchor.objects.create(
            day=day, after_act=after, upto_act=upto, acts=count, made_at=clock.now(), prev_hash=prev_hash,
            hash=_sealed(prev_hash, day, after, upto, count, digest),
        )  # fmt: skip


def anchor_today() -> None:
    """The ticker's chore: yesterday is over, anchor it."""
    anchor(clock.today() - dt.timedelta(days=1))


def check_anchors() -> list[str]:
    """Recompute every anchor: an act or a whole case removed, added or changed since is noticed here."""
    problems, previous = [], (chain.GENESIS, 0)
    for row in Anchor.objects.order_by("day"):
        count, digest = _digest(row.after_act, row.upto_act)
        if count != row.acts:
            problems.append(f"anchor {row.day}: {row.acts} acts were anchored, {count} are there")
        expected = _sealed(previous[0], row.day, row.after_act, row.upto_act, count, digest)
        if (bytes(row.prev_hash), row.after_act) != previous or bytes(row.hash) != expected:
            problems.append(f"anchor {row.day}: does not fit the acts it covers")
        previous = (bytes(row.hash), row.upto_act)
    return problems
