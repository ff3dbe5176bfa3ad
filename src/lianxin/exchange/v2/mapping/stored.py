"""The life of a stored mapping: drafted, tried, activated, retired, gone back to. Every act is audited and bound to its version."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Max, Q, QuerySet

from lianxin.access import audit, seal
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.exchange.v2.mapping import reading, samples, sheets, shelf, trying
from lianxin.exchange.v2.mapping.mapping import Mapping
from lianxin.exchange.v2.mapping.models import ACTIVE, DRAFT, RETIRED, MappingSample, MappingVersion
from lianxin.exchange.v2.mapping.reading import Fault, Faulty
from lianxin.exchange.v2.mapping.samples import Sample
from lianxin.exchange.v2.mapping.trying import Trial
from lianxin.standards import clock
from lianxin.standards.text import T

MOST_SAMPLES = 30


def versions(kind: str, peer_id: int | None) -> QuerySet[MappingVersion]:
    """Versions for a kind and sender, the newest first."""
    return MappingVersion.objects.filter(_whose(peer_id), kind=kind).order_by("-version")


def _whose(peer_id: int | None) -> Q:
    return Q(peer__isnull=True) if peer_id is None else Q(peer_id=peer_id)


def active(kind: str, peer_id: int | None) -> MappingVersion | None:
    """The active version, if there is one."""
    return versions(kind, peer_id).filter(state=ACTIVE).first()


def draft(kind: str, peer_id: int | None) -> MappingVersion | None:
    """The draft, if there is one."""
    return versions(kind, peer_id).filter(state=DRAFT).first()


def layers(kind: str, peer_id: int | None, body: str | None) -> list[tuple[str, str]]:
    """What is laid over the built-in mapping: for a sender's text also what holds for everybody. ``body`` None: nothing of this one."""
    out = []
    if peer_id is not None and (common := active(kind, None)) is not None:
        out.append((f"a{common.version}", common.body))
    if body is not None:
        out.append(("draft", body))
    return out


def faults_of(kind: str, peer_id: int | None, body: str) -> list[Fault]:
    """Everything that is wrong with a text, for every message it is for; [] when it can be used."""
    try:
        over = [(label, reading.read(text)) for label, text in layers(kind, peer_id, body)]
        found: dict[Fault, None] = {}
        for event in sheets.events_of(sheets.built_in()[kind]):
            try:
                Mapping(kind, event, over, "draft")
            except Faulty as fault:
                found.update(dict.fromkeys(fault.faults))
        return list(found)
    except Faulty as fault:
        return fault.faults


def save(
    scope: Scope, kind: str, peer_id: int | None, body: str, why: str, seen: int | None = None
) -> MappingVersion:
    """Write the draft (a new version, or the draft there is). ``seen``: the version its editor began from.

    :class:`Invalid` when somebody else made a newer one meanwhile, or nothing is said about why.
    """
    if kind not in sheets.built_in():
        raise Invalid({"kind": T("没有这种映射。", "There is no such mapping.")})
    if not why.strip():
        raise Invalid({"why": T("请写明修改原因。", "Say why this is changed.")})
    body = body.replace("\r\n", "\n").replace("\x00", "")
    now = clock.now()
    try:
        with transaction.atomic():
            held = versions(kind, peer_id).select_for_update().first()
            if held is not None and seen is not None and held.version != seen:
                raise Invalid(
                    {
                        "body": T(
                            "他人已修改，请刷新后再改。",
                            "Somebody else has changed it; look again before you change it.",
                        )
                    }
                )
            if held is not None and held.state == DRAFT:
                held.body, held.why, held.by_id, held.changed_at = (
                    body,
                    why.strip()[:500],
                    scope.account_id,
                    now,
                )
                held.save()
                made = held
            else:
                base = active(kind, peer_id)
                number = (versions(kind, peer_id).aggregate(m=Max("version"))["m"] or 0) + 1
                made = MappingVersion.objects.create(
                    kind=kind, peer_id=peer_id, version=number, state=DRAFT, body=body, why=why.strip()[:500],
                    based_on=base, by_id=scope.account_id, made_at=now, changed_at=now,
                )  # fmt: skip
            _audit(scope, made, "drafted")
    except IntegrityError:
        raise Invalid(
            {
                "body": T(
                    "他人正在修改，请刷新后再改。",
                    "Somebody else is changing it; look again before you change it.",
                )
            }
        ) from None
    return made


@dataclass
class Outcome:
    """What a sample said about a version."""

    sample: Sample
    trial: Trial


def kept_samples(kind: str, peer_id: int | None) -> QuerySet[MappingSample]:
    """The samples an institution entered, still sealed."""
    return MappingSample.objects.filter(_whose(peer_id), kind=kind).order_by("name")


def own_samples(kind: str, peer_id: int | None) -> list[tuple[MappingSample, Sample]]:
    """The samples an institution entered, opened."""
    out = []
    for row in kept_samples(kind, peer_id):
        text = seal.unseal_bytes(bytes(row.body)).decode()
        head = text.splitlines()[0] if text else ""
        out.append((row, Sample(row.name, T(row.name, row.name), _kind_of(head), text)))
    return out


def _kind_of(head: str) -> tuple[str, str]:
    from lianxin.exchange.v2 import message
    from lianxin.exchange.v2.errors import Malformed

    try:
        return message.parse(samples.encoded(head)).kind
    except Malformed:
        return "", ""


def test(kind: str, peer_id: int | None, body: str) -> list[Outcome]:
    """Try a text on its samples: a sender's own ones when it has any, else the shipped ones (those always, when it is for everybody)."""
    own = [sample for _, sample in own_samples(kind, peer_id)]
    tried = own if own and peer_id is not None else [*own, *samples.of_mapping(kind)]
    over = layers(kind, peer_id, body)
    return [Outcome(sample, trying.run(kind, sample.data(), over)) for sample in tried]


def activate(scope: Scope, pk: int) -> MappingVersion:
    """Make a draft the active version; the one before is retired. :class:`Invalid` when it is faulty or a sample does not pass."""
    shown = MappingVersion.objects.get(pk=pk)
    faults = faults_of(shown.kind, shown.peer_id, shown.body)
    if faults:
        raise Invalid({"body": faults[0].text})
    failed = [one for one in test(shown.kind, shown.peer_id, shown.body) if not one.trial.passed]
    if failed:
        said = T("样例“{n}”未通过，不能启用。", "The sample “{n}” does not pass; it cannot be activated.")
        raise Invalid({"body": said.format(n=failed[0].sample.title)})
    now = clock.now()
    with transaction.atomic():
        made = MappingVersion.objects.select_for_update().get(pk=pk)
        if made.state != DRAFT or made.body != shown.body:
            raise Invalid({"body": T("该版本已变化，请刷新。", "This version has changed; look again.")})
        for before in versions(made.kind, made.peer_id).select_for_update().filter(state=ACTIVE):
            before.state, before.retired_at, before.changed_at = RETIRED, now, now
            before.save()
        made.state, made.activated_by_id, made.activated_at, made.changed_at = (
            ACTIVE,
            scope.account_id,
            now,
            now,
        )
        made.save()
        _audit(scope, made, "activated")
    shelf.forget()
    return made


def retire(scope: Scope, pk: int) -> MappingVersion:
    """End an active version (the built-in mapping holds again), or throw a draft away."""
    now = clock.now()
    with transaction.atomic():
        made = MappingVersion.objects.select_for_update().get(pk=pk)
        if made.state == RETIRED:
            raise Invalid({"body": T("该版本已停用。", "This version is retired already.")})
        was, made.state = made.state, RETIRED
        made.retired_at = made.changed_at = now
        made.save()
        _audit(scope, made, "retired" if was == ACTIVE else "draft thrown away")
    shelf.forget()
    return made


def go_back(scope: Scope, pk: int) -> MappingVersion:
    """A draft with the text of an earlier version; it is tried and activated like any other."""
    old = MappingVersion.objects.get(pk=pk)
    if draft(old.kind, old.peer_id) is not None:
        raise Invalid(
            {"body": T("已有草稿，请先启用或放弃。", "There is a draft; activate it or throw it away first.")}
        )
    why = T("恢复版本 {n}", "Back to version {n}").format(n=old.version)
    made = save(scope, old.kind, old.peer_id, old.body, f"{why.zh} / {why.en}")
    MappingVersion.objects.filter(pk=made.pk).update(based_on=old)
    made.refresh_from_db()
    return made


def difference(old: str, new: str) -> list[tuple[str, str]]:
    """The lines of two texts: ("+", "-" or " ", line)."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return [(line[:1], line[1:]) for line in lines if not line.startswith(("---", "+++"))]


def add_sample(scope: Scope, kind: str, peer_id: int | None, name: str, text: str) -> MappingSample:
    """Keep a message to try versions on. :class:`Invalid` when it is not for this mapping, or there are too many."""
    name = name.strip()[:120]
    data = samples.encoded(text.replace("\x00", ""))
    errors = {}
    if not name:
        errors["name"] = T("请填写名称。", "Give it a name.")
    if sheets.by_event().get(_kind_of((text.strip().splitlines() or [""])[0])) != kind:
        errors["text"] = T("这不是 {k} 类消息。", "This is no message for {k}.").format(k=kind)
    if kept_samples(kind, peer_id).count() >= MOST_SAMPLES:
        errors["name"] = T("样例过多，请先删除。", "There are too many samples; delete one first.")
    if len(data) > 1024 * 1024:
        errors["text"] = T("样例过大（上限 1 MB）。", "The sample is too large (1 MB at most).")
    if errors:
        raise Invalid(errors)
    body = seal.seal_bytes(text.replace("\x00", "").encode())
    with transaction.atomic():
        values = {"body": body, "by_id": scope.account_id, "made_at": clock.now()}
        if not MappingSample.objects.filter(_whose(peer_id), kind=kind, name=name).update(**values):
            MappingSample.objects.create(kind=kind, peer_id=peer_id, name=name, **values)
        row = MappingSample.objects.get(_whose(peer_id), kind=kind, name=name)
        audit.write(
            scope, "admin", what=f"HL7 v2 mapping {kind} sample", detail={"did": "kept", "sample": row.pk}
        )
    return row


def drop_sample(scope: Scope, kind: str, peer_id: int | None, pk: int) -> None:
    """Delete a sample of one's own."""
    with transaction.atomic():
        MappingSample.objects.filter(_whose(peer_id), kind=kind, pk=pk).delete()
        audit.write(
            scope, "admin", what=f"HL7 v2 mapping {kind} sample", detail={"did": "deleted", "sample": pk}
        )


def _audit(scope: Scope, made: MappingVersion, did: str) -> None:
    audit.write(
        scope,
        "admin",
        what=f"HL7 v2 mapping {made.kind} version {made.version}",
        detail={"did": did, "peer": made.peer_id, "why": made.why[:200]},
    )


__all__ = ["Outcome", "activate", "add_sample", "difference", "draft", "go_back", "retire", "save", "test"]
