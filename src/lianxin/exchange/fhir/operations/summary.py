"""Patient/$summary: the International Patient Summary (IPS) of a person, as a document Bundle made from the record.

The summary speaks of the person, so it draws on every source the caller may see; references to source Patients are turned to the
Patient it was asked for.  A required section without entries says that nothing is known (not that there is nothing).
"""

import re
import uuid
from typing import Any

from lianxin.access import connections, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import document, gather, sections
from lianxin.index.models import Person
from lianxin.record import search, store, text
from lianxin.record.problems import refuse
from lianxin.record.store import Result, moment, stamp

PROFILE = "http://hl7.org/fhir/uv/ips/StructureDefinition"
PATIENT = re.compile(r'("reference"\s*:\s*")Patient/([A-Za-z0-9\-.]{1,64})(")')


def register() -> None:
    """Offer the operation on a Patient, and on the type with an identifier."""
    handlers.register_operation(
        "Patient", "summary", summary, affects_state=False,
        definition="http://hl7.org/fhir/uv/ips/OperationDefinition/summary",
    )  # fmt: skip


def summary(scope: Scope, asked: Request) -> Response:
    """``Patient/{id}/$summary`` or ``Patient/$summary?identifier=system|value``."""
    profile = asked.argument("profile")
    if profile and profile.partition("|")[0] != f"{PROFILE}/Bundle-uv-ips":
        raise refuse(400, "not-supported", "只提供 IPS 摘要", "only the IPS profile is offered", "profile")

    def work(cur: Any) -> tuple[Result, list[sections.Filled], list[Result]]:
        who = _patient(cur, scope, asked)
        known = _known_as(cur, scope, who)
        filled = [_fill(cur, scope, section, known) for section in sections.SECTIONS]
        results = [r for f in filled for r in f.results]
        named = {k: v for k, v in gather.references(results).items() if k in ("Medication", "Organization")}
        extra = gather.by_ids(cur, scope, named)
        gate.note(cur, scope, "read", [who, *results], f"Patient/{who.id}/$summary")
        return who, filled, extra

    who, filled, extra = connections.reading(work)
    return Response(200, _bundle(asked.base, scope, who, filled, extra))


def _patient(cur: Any, scope: Scope, asked: Request) -> Result:
    """The Patient asked for."""
    if asked.id:
        found = store.read(cur, scope, "Patient", asked.id)
        if found is None:
            raise gate.absent("Patient", asked.id)
        if found.deleted:
            raise gate.gone("Patient", asked.id)
        return found
    identifier = asked.argument("identifier")
    if not identifier:
        raise refuse(400, "required", "请给出 identifier", "give the patient's identifier", "identifier")
    matches = search.search(cur, scope, "Patient", [("identifier", identifier), ("_count", "50")]).entries
    if len({m.person_id for m in matches}) != 1:
        raise refuse(
            404 if not matches else 422,
            "not-found" if not matches else "multiple-matches",
            f"该标识匹配到 {len(matches)} 个患者",
            f"the identifier matches {len(matches)} patients",
            "identifier",
        )
    return matches[0]


def _known_as(cur: Any, scope: Scope, who: Result) -> str:
    """The Patient reference that stands for all sources of the person, as far as the scope may see it."""
    person = Person.objects.unscoped("whose Patient this is").filter(pk=who.person_id).first()
    if person is not None and store.read(cur, scope, "Patient", person.number) is not None:
        return f"Patient/{person.number}"
    return f"Patient/{who.id}"


def _fill(cur: Any, scope: Scope, section: sections.Section, patient: str) -> sections.Filled:
    """The entries of a section, newest first."""
    results: list[Result] = []
    for rtype, params in section.searches:
        if tokens.allows(scope, rtype, "s") and tokens.allows(scope, rtype, "r"):
            given = [("patient", patient), *params, ("_count", str(section.most))]
            results += search.search(cur, scope, rtype, given).entries
    pairs = [(r, text.parse(r.body.encode())) for r in results]
    kept = [(r, resource) for r, resource in pairs if section.keep(resource)][: section.most]
    return sections.Filled(section, [r for r, _ in kept], [resource for _, resource in kept])


def _bundle(base: str, scope: Scope, who: Result, filled: list[sections.Filled], extra: list[Result]) -> str:
    reference = f"Patient/{who.id}"
    subject = {"reference": reference}
    maker = f"urn:uuid:{uuid.uuid4()}"
    entries: dict[str, str] = {f"{base}/{reference}": who.body}
    entries[maker] = text.dumps(
        {
            "resourceType": "Device",
            "id": maker.removeprefix("urn:uuid:"),
            "status": "active",
            "deviceName": [{"name": "Lianxin 联心", "type": "user-friendly-name"}],
        }
    ).decode()
    told = []
    for one in filled:
        names = []
        for result in one.results:
            url = f"{base}/{result.rtype}/{result.id}"
            entries.setdefault(url, _turned(result.body, who.id))
            names.append({"reference": f"{result.rtype}/{result.id}"})
        if not one.results:
            if not one.section.required:
                continue
            url, resource = one.section.unknown(subject)
            entries[url] = text.dumps(resource).decode()
            names.append({"reference": url})
        told.append(one.as_section(names))
    for result in extra:
        entries.setdefault(f"{base}/{result.rtype}/{result.id}", result.body)
    composition = {
        "resourceType": "Composition",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{PROFILE}/Composition-uv-ips"]},
        "language": "zh-CN",
        "text": sections.narrative("患者摘要 Patient Summary", [], []),
        "status": "final",
        "type": {
            "coding": [{"system": sections.LOINC, "code": "60591-5", "display": "Patient summary Document"}],
            "text": "患者摘要",
        },
        "subject": subject,
        "date": stamp(moment()),
        "author": [{"reference": maker, "display": scope.name[:100] or "Lianxin 联心"}],
        "title": "患者摘要 International Patient Summary",
        "confidentiality": "N",
        "section": told,
    }
    first = (f"urn:uuid:{composition['id']}", text.dumps(composition).decode())
    return document.bundle([first, *entries.items()])


def _turned(body: str, patient_id: str) -> str:
    """A resource whose references to source Patients name the Patient of the summary (other patients are not in it)."""
    return PATIENT.sub(rf"\g<1>Patient/{patient_id}\g<3>", body)
