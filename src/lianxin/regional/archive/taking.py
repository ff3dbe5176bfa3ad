"""Indexing: rows for what is durable in the spool, each once, in one transaction a batch.

Indexers of one study wait for each other (an advisory lock on its UID), so a study is one row however many doors it comes through. What
is there already with the same bytes is taken quietly; the same UID with other bytes, a study of somebody else and whatever ``whose``
does not know go into quarantine.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q

from lianxin.access import audit, seal
from lianxin.access.scope import Scope, institutions_for
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.archive import store, whose
from lianxin.regional.archive.header import Facts
from lianxin.regional.archive.models import Device, Instance, Series, Study
from lianxin.regional.archive.spool import Arrived

log = logging.getLogger(__name__)

FUTURE = dt.timedelta(minutes=10)
PAST = dt.timedelta(days=365 * 30)
FRESH = dt.timedelta(hours=12)
"""How near its making an instance must arrive for the difference to say something about the device's clock."""


class Taken(NamedTuple):
    """What became of one instance: "stored", "duplicate" or "quarantined" (with the problem)."""

    outcome: str
    study_id: int
    problem: str = ""


@dataclass
class _Group:
    """Instances of one study that say the same about whose they are."""

    study: Study
    items: list[tuple[int, Arrived, str]] = field(default_factory=list)
    renamed: bool = False


def claim_of(facts: Facts) -> bytes:
    """Keyed digest of what a header says about whose it is."""
    return seal.blind("\x1f".join(facts.claim()), "dicom-claim")


def take(batch: Sequence[Arrived]) -> list[Taken]:
    """Index what arrived and let its name in the spool go. Raises Full or a database error: everything stays in the spool."""
    if not batch:
        return []
    paths = store.place([(a.path, a.facts.study_uid, a.hash) for a in batch])
    with transaction.atomic():
        done = _take(batch, paths)
    for one in batch:
        try:
            os.unlink(one.path)
        except OSError as error:  # it will be found to be here already, and be removed then
            log.warning("%s is indexed but cannot be removed: %s", one.path, error)
    return done


def _lock(keys: set[str]) -> None:
    """Wait for other indexers of the same studies and instances."""
    numbers = sorted(
        int.from_bytes(hashlib.blake2b(k.encode(), digest_size=8).digest(), signed=True) for k in keys
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(k) FROM (SELECT k FROM unnest(%s::bigint[]) AS g(k) ORDER BY k) AS o",
            [numbers],
        )


def _take(batch: Sequence[Arrived], paths: list[str]) -> list[Taken]:
    _lock({a.facts.study_uid for a in batch} | {f"sop {a.facts.sop_uid}" for a in batch})
    results: list[Taken | None] = [None] * len(batch)
    uids = {a.facts.sop_uid for a in batch}
    known: dict[tuple[str, bytes], tuple[int, str, str]] = {}
    taken_uids: set[str] = set()
    for sent, digest, uid, live, study_id, state, problem, path in Instance.objects.filter(
        Q(sent_uid__in=uids) | Q(sop_uid__in=uids)
    ).values_list(
        "sent_uid", "hash", "sop_uid", "live", "study_id", "study__state", "study__problem", "path"
    ):  # fmt: skip
        known[sent, bytes(digest)] = (study_id, problem if state != "stored" else "", path)
        if live:
            taken_uids.add(uid)
    groups: dict[tuple[str, bytes, int, bool], _Group] = {}
    same: list[tuple[int, tuple[str, bytes, int, bool]]] = []
    mine: dict[tuple[str, bytes], tuple[str, bytes, int, bool]] = {}
    for n, (arrived, path) in enumerate(zip(batch, paths, strict=True)):
        facts = arrived.facts
        here = known.get((facts.sop_uid, arrived.hash))
        if here is not None:
            results[n] = Taken("duplicate", here[0], here[1])
            if (
                os.path.normpath(here[2]) != path
            ):  # Orthanc has it: the name that was just given is one too many
                transaction.on_commit(functools.partial((store.root() / path).unlink, missing_ok=True))
            continue
        twin = mine.get((facts.sop_uid, arrived.hash))
        if twin is not None:
            same.append((n, twin))
            continue
        conflict = facts.sop_uid in taken_uids
        key = (facts.study_uid, claim_of(facts), arrived.sender.institution_id, conflict)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(_study_for(arrived, key[1], conflict))
        group.items.append((n, arrived, path))
        mine[facts.sop_uid, arrived.hash] = key
        taken_uids.add(facts.sop_uid)
    for group in groups.values():
        _rows(group)
        outcome = "stored" if group.study.state == "stored" else "quarantined"
        for n, _, _ in group.items:
            results[n] = Taken(outcome, group.study.pk, group.study.problem)
    for n, key in same:
        results[n] = Taken("duplicate", groups[key].study.pk, groups[key].study.problem)
    _devices(batch)
    return [one for one in results if one is not None]


def _study_for(arrived: Arrived, claim: bytes, conflict: bool) -> Study:
    """The study an instance belongs to, found or made."""
    facts, institution_id = arrived.facts, arrived.sender.institution_id
    rows = Study.objects.unscoped("the archive indexes what arrived")
    if conflict:
        return _waiting(arrived, claim, "sop_conflict")
    decided = rows.filter(sent_uid=facts.study_uid, claim=claim, institution_id=institution_id, state="stored").first()  # fmt: skip
    if decided is not None:
        return decided
    institution = Institution.objects.get(pk=institution_id)
    verdict = whose.of(facts, institutions_for(institution), institution_id)
    stored = rows.filter(study_uid=facts.study_uid, state="stored").first()
    if stored is not None:
        if _belongs(stored, facts, verdict, institution_id):
            return stored
        return _waiting(arrived, claim, "study_conflict")
    if verdict.problem:
        return _waiting(arrived, claim, verdict.problem)
    study = _new(arrived, claim)
    study.person_id, study.order_number, study.state = verdict.person_id, verdict.number, "stored"
    study.save(force_insert=True)
    return study


def _belongs(stored: Study, facts: Facts, verdict: whose.Verdict, institution_id: int) -> bool:
    """Whether another header of a study that is somebody's speaks of the same person."""
    if verdict.person_id is not None:
        return verdict.person_id == stored.person_id
    if stored.institution_id != institution_id or verdict.problem not in (
        "no_accession",
        "unknown_accession",
    ):
        return False
    person = Person.objects.unscoped("the study's person is compared with the header").get(
        pk=stored.person_id
    )
    return not whose.difference(person, facts, institution_id) and bool(facts.patient_id)


def _waiting(arrived: Arrived, claim: bytes, problem: str) -> Study:
    """The quarantined study of a claim; one that was rejected waits again when more of it comes."""
    found: Study | None = (
        Study.objects.unscoped("the archive indexes what arrived")
        .filter(
            sent_uid=arrived.facts.study_uid,
            claim=claim,
            problem=problem,
            institution_id=arrived.sender.institution_id,
        )
        .exclude(state="stored")
        .first()
    )
    if found is not None:
        if found.state == "rejected":
            found.state = "quarantined"
            found.save(update_fields=["state"])
            revive(found)
        return found
    study = _new(arrived, claim)
    study.state, study.problem = "quarantined", problem
    study.save(force_insert=True)
    return study


def revive(study: Study) -> None:
    """Instances of a study that waits again are live again, but those whose UID another has taken meanwhile."""
    if study.problem == "sop_conflict":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE archive_instance i SET live = true WHERE study_id = %s AND NOT live AND NOT EXISTS"
            " (SELECT 1 FROM archive_instance o WHERE o.live AND o.sop_uid = i.sop_uid)",
            [study.pk],
        )


def _new(arrived: Arrived, claim: bytes) -> Study:
    facts = arrived.facts
    said = {
        "name": facts.name, "patient_id": facts.patient_id, "birth": facts.birth, "sex": facts.sex,
        "accession": facts.accession, "institution": facts.institution, "station": facts.station, "charset": facts.charset,
    }  # fmt: skip
    return Study(
        study_uid=facts.study_uid, sent_uid=facts.study_uid, claim=claim, accession=facts.accession[:16],
        institution_id=arrived.sender.institution_id, device_id=arrived.sender.device_id, source=arrived.sender.source,
        modality=facts.modality, description=facts.description, referrer=facts.referrer, study_id=facts.study_id,
        study_at=facts.study_at or arrived.received_at, clock=_clock(facts, arrived.received_at),
        received_at=arrived.received_at, last_at=arrived.received_at, header=seal.seal(orjson.dumps(said).decode()),
    )  # fmt: skip


def _clock(facts: Facts, received: dt.datetime) -> str:
    """What is wrong with a study's time: it is shown, and the time of receipt stands beside it."""
    if facts.study_at is None:
        return "none"
    if facts.study_at > received + FUTURE:
        return "future"
    return "past" if facts.study_at < received - PAST else ""


def _rows(group: _Group) -> None:
    """Series, instances and sums of a group."""
    study = group.study
    wanted = {a.facts.series_uid: a.facts for _, a, _ in group.items}
    renewed = study.study_uid != study.sent_uid
    series = {s.sent_uid: s for s in Series.objects.filter(study=study, sent_uid__in=wanted)}
    fresh = [
        Series(
            study=study, uid=new_uid(study, uid) if renewed else uid, sent_uid=uid, modality=facts.modality,
            number=facts.series_number, description=facts.series_description, body_part=facts.body_part, started_at=facts.series_at,
        )
        for uid, facts in wanted.items() if uid not in series
    ]  # fmt: skip
    for one in Series.objects.bulk_create(fresh):
        series[one.sent_uid] = one
    live = study.problem != "sop_conflict" and study.state != "rejected"
    Instance.objects.bulk_create(
        Instance(
            series=series[a.facts.series_uid], study=study, sop_uid=new_uid(study, a.facts.sop_uid) if renewed else a.facts.sop_uid,
            sent_uid=a.facts.sop_uid, sop_class=a.facts.sop_class, transfer_syntax=a.facts.transfer_syntax, number=a.facts.number,
            rows=a.facts.rows, columns=a.facts.columns, bits=a.facts.bits, frames=a.facts.frames, path=path,
            offset=a.facts.offset, size=a.facts.size, hash=a.hash, received_at=a.received_at, live=live,
        )
        for _, a, path in group.items
    )  # fmt: skip
    counts: dict[int, int] = {}
    for _, a, _ in group.items:
        pk = series[a.facts.series_uid].pk
        counts[pk] = counts.get(pk, 0) + 1
    for pk, n in counts.items():
        Series.objects.filter(pk=pk).update(instances=F("instances") + n)
    last = max(a.received_at for _, a, _ in group.items)
    kinds = sorted({a.facts.modality for _, a, _ in group.items if a.facts.modality} | set(study.modalities))
    Study.objects.unscoped("the archive indexes what arrived").filter(pk=study.pk).update(
        instances=F("instances") + len(group.items),
        bytes=F("bytes") + sum(a.facts.size for _, a, _ in group.items),
        last_at=last, modalities=kinds, settle_at=last + dt.timedelta(seconds=settings.LIANXIN_ARCHIVE_QUIET_SECONDS),
    )  # fmt: skip
    first = group.items[0][1]
    audit.write(
        by(first), "create", person_id=study.person_id, what=f"study {study.pk}",
        detail={"instances": len(group.items), "state": study.state} | ({"problem": study.problem} if study.problem else {}),
    )  # fmt: skip


def new_uid(study: Study, uid: str) -> str:
    """The UID under which something of a study is delivered whose own UIDs belong to somebody else (PS3.5 B.2: 2.25 and a number)."""
    found = hashlib.sha256(f"{study.pk} {uid}".encode()).digest()[:16]
    return f"2.25.{int.from_bytes(found)}"


def by(arrived: Arrived) -> Scope:
    """On whose behalf something arrived, for the audit."""
    sender = arrived.sender
    who = f"device {sender.device_id}" if sender.device_id else sender.source
    return Scope(
        institution_id=sender.institution_id, name=who, reason=f"received from {who}", everything=False
    )


def _devices(batch: Sequence[Arrived]) -> None:
    """When devices last stored something, and how far their clocks are off."""
    seen: dict[int, Arrived] = {a.sender.device_id: a for a in batch if a.sender.device_id}
    for pk, arrived in seen.items():
        made = arrived.facts.made_at
        fields: dict[str, object] = {"last_stored_at": arrived.received_at}
        if made is not None and abs(made - arrived.received_at) < FRESH:
            fields["drift"] = round((made - arrived.received_at).total_seconds())
        Device.objects.filter(pk=pk).update(**fields)
