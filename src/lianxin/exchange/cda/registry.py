"""The registry of documents (ITI-42 / MHD): one entry a version, the bytes as they came, and what was read out of them.

Registering is one transaction with everything it makes: Patient, Binary, DocumentReference, Composition and the clinical
resources.  A new version supersedes the one before and takes back what only that one said; an older version that comes late is
kept as superseded and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from lianxin.access import seal
from lianxin.access.scope import Scope
from lianxin.exchange.cda import ccda, mapping
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda.model import Document
from lianxin.exchange.cda.models import CURRENT, IN, OUT, SUPERSEDED, RegisteredDocument
from lianxin.exchange.cda.registry_people import disagreement, patient_of
from lianxin.exchange.feeds import people
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft
from lianxin.exchange.feeds.models import CONSISTENCY, VALIDITY, WARN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.network.models import Institution
from lianxin.record import store, text
from lianxin.record.keys import ref_key
from lianxin.record.store import Write
from lianxin.standards import clock
from lianxin.standards.text import T

SHARED_TYPES = frozenset(
    {"Encounter", "Organization", "Practitioner", "PractitionerRole", "Location", "Patient"}
)
"""What several documents speak of: never taken back with one of them."""
WHY = Scope.system("versions of a document")


@dataclass(frozen=True)
class Registered:
    """A document's entry: its number here, its DocumentReference and Binary, and whether it stood there already."""

    pk: int
    reference: str
    binary: str
    kind: str
    title: str
    status: str
    repeated: bool = False


@dataclass
class _Versions:
    """What a document means to those before it."""

    series: str
    superseded: list[RegisteredDocument] = field(default_factory=list)
    late: bool = False


def version_of(document: Document) -> int:
    """versionNumber as a whole number; 1 when it says none."""
    digits = re.search(r"\d{1,18}", document.version)
    return int(digits[0]) if digits else 1


def locks(institution: Institution, document: Document) -> tuple[str, ...]:
    """Names locked while a document is registered: itself, its series, and what it replaces."""
    names = {str(document.id), document.key}
    names |= {str(n) for r in document.related for n in (r.id, r.set_id) if n}
    return tuple(f"Document/{institution.pk}/{n}" for n in sorted(names))


def ids_of(institution_id: int, series: str, version: int) -> tuple[str, str]:
    """Id of a version's DocumentReference (and Binary), and the stem of the ids of what is read out of the series."""
    stem = seal.blind(f"{institution_id}|{series}", "document").hex()
    one = seal.blind(f"{institution_id}|{series}|{version}", "document-version").hex()
    return one, stem


@dataclass
class _Coming:
    """A document on its way into the registry; ``own``: (DocumentReference, Binary) that stand in the record already."""

    institution: Institution
    document: Document
    body: bytes
    patient_id: str = ""
    way: str = IN
    own: tuple[str, str] | None = None
    found: list[Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.number = str(self.document.id)[:300]
        self.version = version_of(self.document)
        self.digest = seal.sm3(self.body)

    def known(self) -> RegisteredDocument | None:
        """The entry of this very version."""
        return RegisteredDocument.objects.filter(
            institution=self.institution, number=self.number, version=self.version
        ).first()


def register(cur: Any, institution: Institution, document: Document, body: bytes) -> Draft:
    """Understand a document as what it is in the record, inside the caller's transaction.

    Refuses another content under a known id and version. A known document gives its entry again and writes nothing.
    """
    coming = _Coming(institution, document, body)
    if known := coming.known():
        return _known(known, coming.digest)
    said = patient_of(document, institution.pk)
    ready = people.prepare(cur, institution.pk, said.patient, said.numbers, weak=said.weak)
    coming.patient_id = ready.patient_id
    coming.found += _notes(document, said.warnings)
    if other := disagreement(ready.before, said.patient):
        coming.found.append(other)
    draft = _entered(cur, coming)
    if ready.write is not None:
        draft.writes.insert(0, ready.write)
    draft.person_id = ready.person_id
    return draft


def provided(
    cur: Any,
    institution: Institution,
    document: Document,
    body: bytes,
    patient: dict[str, Any],
    own: tuple[str, str],
) -> Draft:
    """The same for a document whose DocumentReference and Binary (``own``: their ids) were sent over FHIR for ``patient``.

    Refuses a document about somebody else than the Patient it was provided for.
    """
    coming = _Coming(institution, document, body, patient["id"], own=own)
    if known := coming.known():
        return _known(known, coming.digest)
    said = patient_of(document, institution.pk)
    other = disagreement(patient, said.patient)
    if other is not None and other.severity != WARN:
        raise Refusal(
            "business-rule",
            T(
                "文档中的患者与 DocumentReference.subject 不是同一人。",
                "The patient in the document is not the one of DocumentReference.subject.",
            ),
            "DocumentReference.subject",
        )
    coming.found += [*_notes(document, said.warnings), *([other] if other else [])]
    return _entered(cur, coming)


def mapping_name(document: Document) -> str:
    """What understood it, as lineage shows it."""
    return f"cda:{document.kind.number}" if document.kind else f"cda:{document.foreign or 'cda'}"


def _known(known: RegisteredDocument, digest: bytes) -> Draft:
    if bytes(known.digest) != digest:
        raise Refusal(
            "duplicate",
            T(
                "该文档标识和版本号已登记过内容不同的文档；如系更正，请提高 versionNumber 后重发。",
                "Another document is registered under this id and version; a correction needs a higher versionNumber.",
            ),
            "/ClinicalDocument/id",
        )
    words = T("该文档已登记，未重复入库。", "The document was registered before; it is stored once.")
    return Draft(warnings=[words], extra=told(known, repeated=True))


def _notes(document: Document, more: Sequence[Any]) -> list[Found]:
    """What was odd in reading, as findings that only warn."""
    out = [Found("document.reading", WARN, "", note, VALIDITY) for note in [*document.warnings, *more]]
    if document.kind is None and document.foreign != "c-cda":
        out.append(
            Found(
                "document.kind",
                WARN,
                "/ClinicalDocument/code",
                T(
                    "不认识的文档类型，已按通用 CDA 读取，原文完整保存。",
                    "An unknown kind of document: it was read as any CDA, and kept as it is.",
                ),
                VALIDITY,
            )
        )
    return out


def next_version(institution: Institution, series: str) -> int:
    """The number of the next version of a series."""
    rows = RegisteredDocument.objects.filter(institution=institution, series=series[:300])
    return (rows.order_by("-version").values_list("version", flat=True).first() or 0) + 1


def enter_issued(
    cur: Any, institution: Institution, document: Document, body: bytes, patient_id: str
) -> Draft:
    """A document the platform composed: registered like any other, but nothing is read out of it, for it says what is there."""
    coming = _Coming(institution, document, body, patient_id, way=OUT)
    store.lock(cur, locks(institution, document))
    return _entered(cur, coming)


# ----------------------------------------------------------------------------------------------------------------- versions


def _versions(cur: Any, coming: _Coming) -> _Versions:
    """Which earlier versions this one supersedes, and whether a later one is here already."""
    document, number = coming.document, coming.number
    here = RegisteredDocument.objects.filter(institution=coming.institution)
    key = document.key[:300]
    rows = list(here.filter(Q(number=number) | Q(series=key)).order_by("-version"))
    own = [r for r in rows if r.number == number]
    out = _Versions(own[0].series if own else key)
    current = next((r for r in rows if r.series == out.series and r.status == CURRENT), None)
    if current is not None and not own:
        other = _patient_of(cur, current) != coming.patient_id
        if other or current.version == coming.version:
            out.series = number
            coming.found.append(_no_series(other))
            current = None
    if current is not None:
        if coming.version > current.version:
            out.superseded.append(current)
        else:
            out.late = True
    for one in document.related:
        if one.type.upper() == "RPLC" and (one.id or one.set_id):
            wanted = Q(number=str(one.id)) if one.id else Q(series=str(one.set_id))
            for row in here.filter(wanted, status=CURRENT).exclude(number=number):
                if row not in out.superseded and _patient_of(cur, row) == coming.patient_id:
                    out.superseded.append(row)
    if here.filter(replaces__in=[number, key]).exclude(replaces="").exclude(number=number).exists():
        out.late = True
    return out


def _no_series(other: bool) -> Found:
    why = (
        T("setId 与另一患者的文档相同", "the setId is that of another patient's document")
        if other
        else T("setId 和版本号与另一份文档相同", "setId and version are those of another document")
    )
    return Found(
        "document.series",
        WARN,
        "/ClinicalDocument/setId",
        T("{why}，未视为同一文档的新版本。", "It was not taken for a new version: {why}.").format(why=why),
        CONSISTENCY,
    )


def _reference_of(cur: Any, row: RegisteredDocument) -> dict[str, Any] | None:
    found = store.read(cur, WHY, "DocumentReference", row.reference)
    if found is None or found.deleted:
        return None
    return text.parse(found.body.encode())


def _patient_of(cur: Any, row: RegisteredDocument) -> str:
    resource = _reference_of(cur, row) or {}
    return str(resource.get("subject", {}).get("reference", "")).rpartition("/")[2]


def _supersede(cur: Any, rows: Sequence[RegisteredDocument], keep: set[str]) -> list[Write]:
    """Earlier versions say that they are, and what only they said is taken back."""
    writes: list[Write] = []
    gone: set[str] = set()
    for row in rows:
        resource = _reference_of(cur, row)
        if resource is not None:
            meta = {
                k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")
            }
            changed = {**resource, "meta": meta, "status": "superseded"}
            writes.append(Write("update", "DocumentReference", row.reference, changed, trusted=True))
        gone |= set(row.made)
    for one in sorted(gone - keep):
        rtype, _, rid = one.partition("/")
        writes.append(Write("delete", rtype, rid))
    RegisteredDocument.objects.filter(pk__in=[r.pk for r in rows]).update(status=SUPERSEDED, made=[])
    return writes


# ------------------------------------------------------------------------------------------------------------------ entering


def _entered(cur: Any, coming: _Coming) -> Draft:
    """The row of a document and everything to be written with it."""
    document = coming.document
    versions = _versions(cur, coming)
    one, stem = ids_of(coming.institution.pk, versions.series, coming.version)
    reference, binary = coming.own or (one, one)
    silent = versions.late or coming.way == OUT
    read = _Read() if silent else _read_out(cur, coming, stem)
    new = list(read.resources)
    if coming.own is None:
        place = entry.Place(
            reference, binary, coming.patient_id, coming.institution, read.encounter, read.composition
        )
        described = entry.reference(document, place, coming.body, _targets(coming))
        if versions.late:
            described["status"] = "superseded"
        new = [entry.binary(place, coming.body), described, *read.resources]
    writes = _supersede(cur, versions.superseded, set(read.made))
    writes += [Write("update", r["resourceType"], r["id"], r, trusted=True) for r in new]
    replaces = next((str(r.id or r.set_id) for r in document.related if r.type.upper() == "RPLC"), "")
    row = RegisteredDocument.objects.create(
        institution=coming.institution, way=coming.way, number=coming.number, series=versions.series[:300],
        version=coming.version, replaces=replaces[:300], status=SUPERSEDED if versions.late else CURRENT,
        family=entry.family_of(document), kind=entry.kind_of(document)[:60], title=entry.title_of(document),
        reference=reference, key=ref_key(f"DocumentReference/{reference}"), binary=binary, made=read.made, digest=coming.digest,
        size=len(coming.body), confidential=bool(entry.confidentiality_of(document)),
        written=entry.instant(document.time), at=clock.now(),
    )  # fmt: skip
    return Draft(writes, mapping=mapping_name(document), found=coming.found, extra=told(row))


def listed(institution: Institution, resource: dict[str, Any], body: bytes, binary: str) -> None:
    """Register a document that was provided over FHIR and is no CDA: it is found and fetched, not read."""
    master = resource.get("masterIdentifier") or {}
    system, value = master.get("system", ""), master.get("value", "")
    number = f"{system}^{value}" if value else f"DocumentReference/{resource['id']}"
    rows = RegisteredDocument.objects.filter(institution=institution, number=number[:300])
    kinds = resource.get("type", {})
    code = next((c.get("code", "") for c in kinds.get("coding", [])), "")
    shown = resource.get("description") or kinds.get("text") or code or entry.OTHER
    attachment = resource["content"][0]["attachment"]
    if rows.exists():
        return
    RegisteredDocument.objects.create(
        institution=institution, number=number[:300], series=number[:300], family=entry.OTHER,
        status=CURRENT if resource.get("status") == "current" else SUPERSEDED,
        kind=f"{attachment.get('contentType', '')} {code}".strip()[:60], title=str(shown)[:200], reference=resource["id"],
        key=ref_key(f"DocumentReference/{resource['id']}"), binary=binary, digest=seal.sm3(body), size=len(body),
        confidential=any(c.get("code") in ("R", "V") for c in resource.get("meta", {}).get("security", [])),
        written=None, at=clock.now(),
    )  # fmt: skip


@dataclass
class _Read:
    """What was read out of a document: resources to be stored, and which of them are this document's alone (``made``)."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    composition: str = ""
    encounter: str = ""


def _read_out(cur: Any, coming: _Coming, stem: str) -> _Read:
    """The clinical resources of a document, marked confidential when it is."""
    document, code = coming.document, coming.institution.code
    context = mapping.Context(source=code, organization=f"Organization/{code}", key=stem)
    build = mapping.resources if document.kind is not None else ccda.resources
    mapped = build(document, f"Patient/{coming.patient_id}", context)
    for words in mapped.warnings:
        if words not in document.warnings:
            coming.found.append(Found("document.reading", WARN, "", words, VALIDITY))
    secret = entry.confidentiality_of(document)
    out = _Read(composition=mapped.composition["id"])
    for resource in mapped.resources:
        if secret:
            label = {"system": entry.CONFIDENTIALITY, "code": secret, "display": entry.LABELS[secret]}
            resource["meta"] = {**resource.get("meta", {}), "security": [label]}
        if resource["id"] in mapped.shared:
            if resource["resourceType"] == "Encounter":
                out.encounter = resource["id"]
            joined = _joined(cur, resource)
            out.resources += [joined] if joined else []
        else:
            out.made.append(f"{resource['resourceType']}/{resource['id']}")
            out.resources.append(resource)
    return out


def _joined(cur: Any, resource: dict[str, Any]) -> dict[str, Any] | None:
    """What several documents speak of, with what the others said of it; None when this one says nothing new."""
    found = store.read(cur, WHY, resource["resourceType"], resource["id"])
    if found is None or found.deleted:
        return resource
    before = text.parse(found.body.encode())
    joined = {**before, **resource}
    return None if joined == before else joined


def told(row: RegisteredDocument, *, repeated: bool = False) -> Registered:
    """An entry as it is told."""
    return Registered(row.pk, row.reference, row.binary, row.kind, row.title, row.status, repeated)


def _targets(coming: _Coming) -> dict[str, str]:
    """DocumentReferences here of the documents this one names, by number (the latest version of each)."""
    numbers = [str(n) for r in coming.document.related for n in (r.id, r.set_id) if n]
    if not numbers:
        return {}
    rows = RegisteredDocument.objects.filter(institution=coming.institution).filter(
        Q(number__in=numbers) | Q(series__in=numbers)
    )
    out: dict[str, str] = {}
    for row in rows.order_by("version"):
        out[row.number] = out[row.series] = row.reference
    return out


def of_arrival(arrival_id: int | None) -> Registered | None:
    """The entry that an arrival became, told again."""
    if arrival_id is None:
        return None
    refs = Arrival.objects.filter(pk=arrival_id).values_list("resources", flat=True).first() or []
    ids = [r.split("/")[1] for r in refs if r.startswith("DocumentReference/")]
    row = RegisteredDocument.objects.filter(reference__in=ids).order_by("-pk").first()
    return told(row, repeated=True) if row else None
