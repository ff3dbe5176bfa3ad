"""Patient/$match (IHE PDQm ITI-119): which persons of the index a Patient may be, by the same weights that link registrations.

Only persons that the caller may see are told of.  Each comes as its golden Patient (all sources together) and as the source
Patients the caller may read, with one score (the probability) and grade; "certain" is what the index would link by itself.
"""

import re
from typing import Any

from lianxin.access import connections, relationships
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, shape
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import gather
from lianxin.index import foreign, registry
from lianxin.index.models import Person
from lianxin.record import search, text
from lianxin.record.problems import refuse
from lianxin.record.store import Result

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
CERTAIN = "certain"
PAGE, MOST = 20, 100
IDENTIFIER, IDENTIFIER_ODD = (0.99, CERTAIN), (0.7, "possible")
"""A number of its own that the rest does not contradict, and one that the rest speaks against."""
MOST_IDENTIFIERS = 10
SAYING = ("name", "birthDate")
"""What must be given for the rest to contradict an identifier."""

Mark = tuple[float, str]
Graded = tuple[float, str, list[Result]]


def register() -> None:
    """Offer the operation."""
    handlers.register_operation(
        "Patient", "match", match, affects_state=False, instance=False, letter="s",
        definition="http://hl7.org/fhir/OperationDefinition/Patient-match",
    )  # fmt: skip


def match(scope: Scope, asked: Request) -> Response:
    """``POST Patient/$match``: resource, onlyCertainMatches, count; best first."""
    given = asked.argument("resource", dict)
    if given is None or given.get("resourceType") != "Patient":
        raise refuse(
            400,
            "required",
            "请在参数 resource 中给出 Patient",
            "give a Patient in the parameter resource",
            "Parameters.parameter.where(name='resource')",
        )
    certain = asked.argument("onlyCertainMatches", bool) or False
    count = gather.number(asked, "count", gather.number(asked, "_count", PAGE, MOST), MOST)

    def work(cur: Any) -> list[Graded]:
        marks = _by_weights(cur, scope, given)
        for number, mark in _by_identifier(cur, scope, given, set(marks)).items():
            marks[number] = max(mark, marks.get(number, mark))
        ordered = sorted(marks.items(), key=lambda m: (m[1][1] != CERTAIN, -m[1][0], m[0]))
        if certain:
            ordered = [m for m in ordered if m[1][1] == CERTAIN]
            if len(ordered) > 1:
                ordered = []  # two certain matches are a doubt
        found = [(*mark, _patients(cur, scope, number)) for number, mark in ordered[:count]]
        gate.note(cur, scope, "search", [r for *_, rs in found for r in rs], "Patient/$match")
        return found

    entries = [
        _entry(asked.base, score, grade, one)
        for score, grade, results in connections.reading(work)
        for one in results
    ]
    link = shape.link("self", f"{asked.base}/Patient/$match")
    return Response(200, shape.bundle_text("searchset", entries[:count], [link], len(entries)))


def _by_weights(cur: Any, scope: Scope, given: dict[str, Any]) -> dict[str, Mark]:
    """Persons the index finds that the scope may see, by number."""
    found = registry.match(None, foreign.registration_from_patient(given, 0), MOST, cursor=cur)
    seen = relationships.seen(scope, sorted(m.person_id for m in found), cursor=cur)
    return {m.number: (round(m.probability, 6), m.grade) for m in found if m.person_id in seen}


def _by_identifier(cur: Any, scope: Scope, given: dict[str, Any], likely: set[str]) -> dict[str, Mark]:
    """Persons with a source Patient that has one of the identifiers (system and value): certain when the rest does not contradict,
    which it does when it speaks of a person and the index finds that ``likely`` is somebody else."""
    found: dict[str, Mark] = {}
    for one in given.get("identifier", [])[:MOST_IDENTIFIERS]:
        if not one.get("system") or not one.get("value"):
            continue
        value = f"{_plain(one['system'])}|{_plain(one['value'])}"
        for result in search.search(cur, scope, "Patient", [("identifier", value)]).entries:
            if result.person_id is None:
                continue
            person = Person.objects.unscoped("whose Patient the caller has found").get(pk=result.person_id)
            odd = person.number not in likely and any(given.get(name) for name in SAYING)
            found[person.number] = IDENTIFIER_ODD if odd else IDENTIFIER
    return found


def _plain(value: str) -> str:
    """A search value taken literally."""
    return re.sub(r"([\\|,$])", r"\\\1", value)


def _patients(cur: Any, scope: Scope, number: str) -> list[Result]:
    """The golden Patient of a person number, and its sources that the scope may read."""
    golden = search.search(cur, scope, "Patient", [("_id", number)]).entries
    sources: set[str] = set()
    for one in golden:
        for link in text.parse(one.body.encode()).get("link", []):
            sources.add(link["other"]["reference"].rpartition("/")[2])
    return [*golden, *gather.by_ids(cur, scope, {"Patient": sources})]


def _entry(base: str, score: float, grade: str, result: Result) -> str:
    extension = f'"extension":[{{"url":"{GRADE}","valueCode":"{grade}"}}],'
    return (
        f'{{"fullUrl":"{base}/{result.rtype}/{result.id}","resource":{result.body},'
        f'"search":{{{extension}"mode":"match","score":{score}}}}}'
    )
