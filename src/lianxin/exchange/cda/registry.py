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
from psycopg.types.json import Jsonb

from lianxin.access import seal
from lianxin.access.scope import Scope
from lianxin.exchange.cda import ccda, mapping
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda.model import Document
from lianxin.exchange.cda.models import CURRENT, IN, OUT, SUPERSEDED, RegisteredDocument
from lianxin.exchange.cda.registry_people import Said, disagreement, patient_of
from lianxin.exchange.feeds import people
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft, Piece
from lianxin.exchange.feeds.models import CONSISTENCY, VALIDITY, WARN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.network.models import Institution
from lianxin.record import store, text
from lianxin.record.keys import ref_key
from lianxin.record.store import Write
from lianxin.standards import clock
from lianxin.standards.text import T

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


def names_of(document: Document) -> set[str]:
    """Numbers and series by which a document, and those it speaks of, are known."""
    related = {str(n) for r in document.related for n in (r.id, r.set_id) if n}
    return {name[:300] for name in {str(document.id), document.key, *related}}


def ids_of(institution_id: int, series: str, version: int) -> tuple[str, str]:
    """Id of a version's DocumentReference (and Binary), and the stem of the ids of what is read out of the series."""
    stem = seal.blind(f"{institution_id}|{series}", "document").hex()
    one = seal.blind(f"{institution_id}|{series}|{version}", "document-version").hex()
    return one, stem


@dataclass(eq=False)
class Coming:
    """A document on its way into the registry; ``own``: (DocumentReference, Binary) that stand in the record already."""

    institution: Institution
    document: Document
    body: bytes
    said: Said | None = None
    patient_id: str = ""
    way: str = IN
    own: tuple[str, str] | None = None
    found: list[Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.number = str(self.document.id)[:300]
        self.version = version_of(self.document)
        self.digest = seal.sm3(self.body)
        self.names = names_of(self.document)

    def locks(self) -> tuple[str, ...]:
        """Names locked while it is registered: itself, its series, what it replaces, and its patient."""
        own = [f"Document/{self.institution.pk}/{name}" for name in self.names]
        return (*sorted(own), *(people.locks(self.said.numbers) if self.said else ()))


@dataclass
class _Read:
    """What was read out of a document: resources to be stored, and which of them are this document's alone (``made``)."""

    resources: list[dict[str, Any]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    composition: str = ""
    encounter: str = ""


class Batch:
    """Documents taken in one transaction: what they speak of is looked up for all of them together, and nothing is written until
    all are understood. No two of a batch share a name (:attr:`Coming.names`): a version sees the one before it stored."""

    def __init__(self) -> None:
        self.coming: dict[int, Coming] = {}
        self.institutions: dict[Any, Institution | None] = {}
        self.scopes: dict[int, Scope] = {}
        self._people: dict[int, people.Known] = {}
        self._rows: dict[int, list[RegisteredDocument]] = {}
        self._shared: dict[str, dict[str, Any]] = {}

    def prepare(self, cur: Any, pieces: Sequence[Piece]) -> None:
        """Look up what these pieces are about; called again, all begins anew."""
        self.look_up(cur, [self.coming[id(p)] for p in pieces])

    def look_up(self, cur: Any, some: Sequence[Coming]) -> None:
        """Patients and earlier documents of ``some``."""
        self._people, self._rows, self._shared = {}, {}, {}
        by_institution: dict[int, list[Coming]] = {}
        for one in some:
            by_institution.setdefault(one.institution.pk, []).append(one)
        for pk, mine in by_institution.items():
            numbers = {n for one in mine if one.said for n in one.said.numbers}
            self._people[pk] = people.look_up(cur, pk, numbers)
            names = list({name for one in mine for name in one.names})
            wanted = Q(number__in=names) | Q(series__in=names) | (Q(replaces__in=names) & ~Q(replaces=""))
            self._rows[pk] = list(RegisteredDocument.objects.filter(wanted, institution_id=pk))

    def rows(self, coming: Coming) -> list[RegisteredDocument]:
        """What is registered under the names of a document, and what replaces it."""
        return [
            r
            for r in self._rows.get(coming.institution.pk, ())
            if not coming.names.isdisjoint((r.number, r.series, r.replaces))
        ]

    def known(self, coming: Coming) -> RegisteredDocument | None:
        """The entry of this very version."""
        rows = self.rows(coming)
        return next((r for r in rows if (r.number, r.version) == (coming.number, coming.version)), None)

    def register(self, cur: Any, coming: Coming) -> Draft:
        """Understand a document as what it is in the record; only reads.

        Refuses another content under a known id and version. A known document gives its entry again and writes nothing.
        """
        if known := self.known(coming):
            return _known(known, coming.digest)
        said = coming.said
        assert said is not None
        pk = coming.institution.pk
        ready = people.prepare(cur, pk, said.patient, said.numbers, weak=said.weak, known=self._people[pk])
        coming.patient_id = ready.patient_id
        coming.found = [*_notes(coming.document, said.warnings)]
        if other := disagreement(ready.before, said.patient):
            coming.found.append(other)
        draft = self.entered(cur, coming)
        if ready.write is not None:
            draft.writes.insert(0, ready.write)
        draft.person_id = ready.person_id
        enter = draft.then

        def then(inner: Any) -> None:
            people.adopt(ready)
            if enter is not None:
                enter(inner)

        draft.then = then
        return draft

    def entered(self, cur: Any, coming: Coming) -> Draft:
        """Everything to be written with a document; its row is made when the rest is stored."""
        document = coming.document
        versions = _versions(cur, coming, self.rows(coming))
        one, stem = ids_of(coming.institution.pk, versions.series, coming.version)
        reference, binary = coming.own or (one, one)
        silent = versions.late or coming.way == OUT
        read = _Read() if silent else self._read_out(cur, coming, stem)
        new = list(read.resources)
        if coming.own is None:
            place = entry.Place(
                reference, binary, coming.patient_id, coming.institution, read.encounter, read.composition
            )
            described = entry.reference(document, place, coming.body, _targets(coming, self.rows(coming)))
            if versions.late:
                described["status"] = "superseded"
            new = [entry.binary(place, coming.body), described, *read.resources]
        writes = _superseded(cur, versions.superseded, set(read.made))
        writes += [Write("update", r["resourceType"], r["id"], r, trusted=True) for r in new]
        row = _row(coming, versions, reference, binary, read.made)
        draft = Draft(writes, mapping=mapping_name(document), found=coming.found)
        gone = [r.pk for r in versions.superseded]

        def then(inner: Any) -> None:
            if gone:
                RegisteredDocument.objects.filter(pk__in=gone).update(status=SUPERSEDED, made=[])
            _insert(inner, row)
            draft.extra = told(row)

        draft.then = then
        return draft

    def _read_out(self, cur: Any, coming: Coming, stem: str) -> _Read:
        """The clinical resources of a document, marked confidential when it is."""
        document, code = coming.document, coming.institution.code
        # A visit's number alone is not the visit: some hospitals begin anew, or number the person.
        source = f"{code}/{coming.patient_id}"
        context = mapping.Context(source=source, organization=f"Organization/{code}", key=stem)
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
                joined = self._joined(cur, resource)
                out.resources += [joined] if joined else []
            else:
                out.made.append(f"{resource['resourceType']}/{resource['id']}")
                out.resources.append(resource)
        return out

    def _joined(self, cur: Any, resource: dict[str, Any]) -> dict[str, Any] | None:
        """What several documents speak of, with what the others said of it; None when this one says nothing new."""
        name = f"{resource['resourceType']}/{resource['id']}"
        before = self._shared.get(name)
        if before is None:
            found = store.read(cur, WHY, resource["resourceType"], resource["id"])
            before = text.parse(found.body.encode()) if found is not None and not found.deleted else {}
        joined = self._shared[name] = {**before, **resource}
        return None if joined == before else joined


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
    coming = Coming(institution, document, body, patient_id=patient["id"], own=own)
    batch = Batch()
    batch.look_up(cur, [coming])
    if known := batch.known(coming):
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
    return batch.entered(cur, coming)


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
    coming = Coming(institution, document, body, patient_id=patient_id, way=OUT)
    store.lock(cur, coming.locks())
    batch = Batch()
    batch.look_up(cur, [coming])
    return batch.entered(cur, coming)


# ----------------------------------------------------------------------------------------------------------------- versions


def _versions(cur: Any, coming: Coming, rows: Sequence[RegisteredDocument]) -> _Versions:
    """Which earlier versions this one supersedes, and whether a later one is here already."""
    document, number, key = coming.document, coming.number, coming.document.key[:300]
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
        wanted = str(one.id) if one.id else str(one.set_id)
        for row in rows if one.type.upper() == "RPLC" and wanted else ():
            meant = row.number == wanted if one.id else row.series == wanted
            if meant and row.status == CURRENT and row.number != number and row not in out.superseded:
                out.superseded += [row] if _patient_of(cur, row) == coming.patient_id else []
    out.late = out.late or any(
        r.replaces in (number, key) and r.replaces and r.number != number for r in rows
    )
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


def _superseded(cur: Any, rows: Sequence[RegisteredDocument], keep: set[str]) -> list[Write]:
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
    return writes


# ------------------------------------------------------------------------------------------------------------------ entering


def _row(
    coming: Coming, versions: _Versions, reference: str, binary: str, made: list[str]
) -> RegisteredDocument:
    document = coming.document
    replaces = next((str(r.id or r.set_id) for r in document.related if r.type.upper() == "RPLC"), "")
    return RegisteredDocument(
        institution=coming.institution, way=coming.way, number=coming.number, series=versions.series[:300],
        version=coming.version, replaces=replaces[:300], status=SUPERSEDED if versions.late else CURRENT,
        family=entry.family_of(document), kind=entry.kind_of(document)[:60], title=entry.title_of(document),
        reference=reference, key=ref_key(f"DocumentReference/{reference}"), binary=binary, made=made, digest=coming.digest,
        size=len(coming.body), confidential=bool(entry.confidentiality_of(document)),
        written=entry.instant(document.time), at=clock.now(),
    )  # fmt: skip


_COLUMNS = [str(f.column) for f in RegisteredDocument._meta.concrete_fields if not f.primary_key]
_QUOTED = ", ".join(f'"{c}"' for c in _COLUMNS)
_PLACES = ", ".join(["%s"] * len(_COLUMNS))
_INSERT = f"INSERT INTO {RegisteredDocument._meta.db_table} ({_QUOTED}) VALUES ({_PLACES}) RETURNING id"


def _insert(cur: Any, row: RegisteredDocument) -> None:
    """A row in plain SQL, planned once: asked for every document."""
    values = [Jsonb(row.made) if c == "made" else getattr(row, c) for c in _COLUMNS]
    cur.execute(_INSERT, values, prepare=True)
    row.pk = cur.fetchone()[0]


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


def told(row: RegisteredDocument, *, repeated: bool = False) -> Registered:
    """An entry as it is told."""
    return Registered(row.pk, row.reference, row.binary, row.kind, row.title, row.status, repeated)


def _targets(coming: Coming, rows: Sequence[RegisteredDocument]) -> dict[str, str]:
    """DocumentReferences here of the documents this one names, by number (the latest version of each)."""
    out: dict[str, str] = {}
    for row in sorted(rows, key=lambda r: r.version):
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
