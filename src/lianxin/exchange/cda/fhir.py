"""Documents at the FHIR door, as IHE MHD has them: provide (ITI-65), find (ITI-67), retrieve (ITI-68).

Finding is the door's own search of DocumentReference.  A Binary may be read by whoever may see the DocumentReference it belongs
to.  A DocumentReference provided with a CDA document is read as one that came by any other door: its bytes go through the
registry under the same rules, in the same transaction.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.cda import door, reading, registry
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda.models import CURRENT, SUPERSEDED, RegisteredDocument
from lianxin.exchange.feeds import errors, inbox
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.models import REFUSED
from lianxin.exchange.fhir import reads
from lianxin.network.models import Institution
from lianxin.record import after, extract, search, store, text
from lianxin.record.keys import ref_key
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.record.store import Result

XML_TYPES = frozenset(
    {
        "application/xml",
        "text/xml",
        "application/hl7-v3+xml",
        "application/hl7-cda+xml",
        "application/cda+xml",
    }
)
CODECS = ("utf-8", "utf-16-le", "utf-16-be")
ISSUES = frozenset(
    {
        "structure",
        "required",
        "value",
        "invalid",
        "duplicate",
        "forbidden",
        "too-long",
        "too-costly",
        "security",
    }
)
WHY = Scope.system("whose a Binary is")
CONTENT = "DocumentReference.content[0].attachment"


def register() -> None:
    """Take part in reads of Binary and writes of DocumentReference."""
    reads.register_reader("Binary", binary)
    after.on_written("DocumentReference", provided)


# ----------------------------------------------------------------------------------------------------------------- retrieve


def binary(cur: Any, scope: Scope, rid: str, found: Result | None) -> Result | None:
    """A Binary that the scope may read: its own (``found``), or that of something it may see; the person is noted for the audit.

    What a Binary belongs to is its ``securityContext``, else a DocumentReference of the same source that points at it.
    """
    kept = found or store.read(cur, WHY, "Binary", rid)
    if kept is None or kept.deleted:
        return found
    for rtype, owner in _owners(cur, kept):
        seen = store.read(cur, scope if found is None else WHY, rtype, owner)
        if seen is not None and not seen.deleted:
            kept.person_id = seen.person_id
            return kept
    return found


def _owners(cur: Any, kept: Result) -> list[tuple[str, str]]:
    """Type and id of what a Binary belongs to."""
    context = text.parse(kept.body.encode()).get("securityContext")
    told = extract.split_reference(str(context.get("reference") or "")) if isinstance(context, dict) else None
    if told:
        return [told]
    asked = [("location", f"Binary/{kept.id}"), ("_count", "20")]
    found = search.search(cur, WHY, "DocumentReference", asked).entries
    cur.execute(
        "SELECT d.id FROM record_resource d JOIN record_resource b ON b.institution_id IS NOT DISTINCT FROM d.institution_id"
        " WHERE b.key = %s AND d.key = ANY(%s::bigint[])",
        [ref_key(f"Binary/{kept.id}"), [ref_key(f"DocumentReference/{r.id}") for r in found]],
    )
    return [("DocumentReference", row[0]) for row in cur.fetchall()]


# ------------------------------------------------------------------------------------------------------------------ provide


def provided(cur: Any, scope: Scope, done: Sequence[tuple[dict[str, Any], int | None]]) -> None:
    """DocumentReferences were written: register those that came over FHIR, and read the CDA documents among them."""
    for resource, institution_id in done:
        if entry.READ in resource.get("meta", {}).get("tag", []) or institution_id is None:
            continue
        attachment = resource.get("content", [{}])[0].get("attachment", {})
        target = extract.split_reference(str(attachment.get("url") or ""))
        if target is None or target[0] != "Binary":
            continue
        known = RegisteredDocument.objects.filter(reference=resource["id"]).first()
        if known is not None:
            status = CURRENT if resource.get("status") == CURRENT else SUPERSEDED
            RegisteredDocument.objects.filter(pk=known.pk).update(status=status)
            continue
        _provided(cur, scope, resource, institution_id, attachment, target[1])


def _provided(
    cur: Any,
    scope: Scope,
    resource: dict[str, Any],
    institution_id: int,
    attachment: dict[str, Any],
    binary_id: str,
) -> None:
    body = _bytes(cur, scope, binary_id)
    if body is None:
        return
    institution = Institution.objects.get(pk=institution_id)
    kind = str(attachment.get("contentType", "")).partition(";")[0].strip().lower()
    if kind in XML_TYPES and any("ClinicalDocument".encode(code) in body[:20_000] for code in CODECS):
        _read(cur, scope, resource, institution, body, binary_id)
    else:
        registry.listed(institution, resource, body, binary_id)


def _bytes(cur: Any, scope: Scope, binary_id: str) -> bytes | None:
    """The bytes of a Binary that the writer may see."""
    kept = store.read(cur, scope, "Binary", binary_id)
    if kept is None or kept.deleted:
        return None
    try:
        return base64.b64decode(str(text.parse(kept.body.encode()).get("data", "")), validate=True)
    except (binascii.Error, ValueError):
        return None


def _read(
    cur: Any, scope: Scope, resource: dict[str, Any], institution: Institution, body: bytes, binary_id: str
) -> None:
    """Take a document that was provided through the inbox, in the transaction that wrote its DocumentReference."""
    try:
        document = reading.read(body)
        piece = door.piece_of(scope, document, body, f"client:{scope.client_id or 0}", scope.client_id)
    except Refusal as failure:
        raise _refused(failure) from None
    patient_id = str(resource.get("subject", {}).get("reference", "")).rpartition("/")[2]
    patient = store.read(cur, WHY, "Patient", patient_id)
    if patient is None or patient.deleted:
        raise refuse(
            422,
            "required",
            "缺少患者（subject）",
            "the patient (subject) is missing",
            "DocumentReference.subject",
        )
    known = {**text.parse(patient.body.encode()), "id": patient_id}
    own = (resource["id"], binary_id)
    piece.scope = replace(piece.scope, institution_id=institution.pk)
    piece.pure, piece.prepare = False, None
    piece.understand = lambda inner: registry.provided(inner, institution, document, body, known, own)
    verdict = inbox.take([piece])[0]
    if verdict.state == REFUSED:
        raise verdict.failure if isinstance(verdict.failure, Problem) else _refused(verdict.failure)


def _refused(failure: Exception | None) -> Problem:
    reason = errors.reason_of(failure or Exception())
    return Problem(
        422, Issue(reason.code if reason.code in ISSUES else "business-rule", reason.text, CONTENT)
    )
