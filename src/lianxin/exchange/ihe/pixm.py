"""ITI-83, the mobile Patient Identifier Cross-reference Query: ``GET Patient/$ihe-pix?sourceIdentifier=…&targetSystem=…``.

Who may ask what: the person behind the source identifier must be one the asker may see (it has registered them, or has a
relationship with them), otherwise the identifier is answered as unknown.  Of the person's identifiers it is told its own, the
platform's, and those of institutions that share theirs with it (:mod:`domains`); numbers of identity documents never.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from lianxin.access import audit, connections, journal, relationships
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import gather
from lianxin.exchange.ihe import domains, identifiers
from lianxin.exchange.ihe.identifiers import Held
from lianxin.exchange.ihe.models import PARTNERS
from lianxin.record import persons, visible
from lianxin.record.problems import Problem, refuse

DEFINITION = "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix"
MOST_TARGETS = 50
AUDITED = "ITI-83"


def register() -> None:
    """Offer the operation."""
    handlers.register_operation(
        "Patient", "ihe-pix", query, affects_state=False, instance=False, letter="s", definition=DEFINITION
    )


def query(scope: Scope, asked: Request) -> Response:
    """The identifiers and Patients of the person who has ``sourceIdentifier``."""
    system, value = source_of(asked)
    targets = targets_of(asked)

    def work(cur: Any) -> dict[str, Any]:
        here = asked.base.rstrip("/")
        person_id = resolve(cur, scope, here, system, value)
        if person_id is None:
            raise _unknown_number() if _known_source(cur, here, system) else _unknown_system()
        for one in targets:
            if one.rstrip("/") != here and not domains.target_open(cur, scope, one):
                raise _unknown_target(one)
        told = visible_to(cur, scope, identifiers.of_person(cur, person_id), set(targets))
        parameters = [
            {"name": "targetIdentifier", "valueIdentifier": {"system": h.system, "value": h.value}}
            for h in told
            if (h.system, h.value) != (system, value)
        ]
        ids: list[str] = []
        if not targets or here in {t.rstrip("/") for t in targets}:
            ids = patients_of(cur, scope, person_id)
        given = value.rpartition("/")[2] if system.rstrip("/") == here else ""
        parameters += [
            {"name": "targetId", "valueReference": {"reference": f"Patient/{one}"}}
            for one in ids
            if one != given
        ]
        detail = {"transaction": AUDITED, "identifiers": len(parameters) - len(ids), "patients": len(ids)}
        journal.keep(
            [audit.entry(scope, "search", person_id=person_id, what="Patient/$ihe-pix", detail=detail)]
        )
        made: dict[str, Any] = {"resourceType": "Parameters"}
        return {**made, "parameter": parameters} if parameters else made

    return Response(200, connections.reading(work))


def source_of(asked: Request) -> tuple[str, str]:
    """System and value of ``sourceIdentifier``; 400 unless it is given once, as ``system|value``."""
    given = [v for v in asked.arguments.get("sourceIdentifier", []) if v != ""]
    if len(given) != 1 or type(given[0]) is not str:
        raise refuse(
            400, "required" if not given else "invalid",
            "请给出且只给出一个 sourceIdentifier=system|value", "give sourceIdentifier=system|value, exactly once", "sourceIdentifier",
        )  # fmt: skip
    system, bar, value = given[0].partition("|")
    if not bar or not system.strip() or not value.strip():
        raise refuse(
            400, "code-invalid",
            "sourceIdentifier 应写成 system|value，两部分都要有", "sourceIdentifier Assigning Authority not found", "sourceIdentifier",
        )  # fmt: skip
    return system.strip()[:2000], value.strip()[:2000]


def targets_of(asked: Request) -> list[str]:
    """The values of ``targetSystem``; 400 for one that is no text or for too many."""
    given = [v for v in asked.arguments.get("targetSystem", []) if v != ""]
    if len(given) > MOST_TARGETS or any(type(v) is not str for v in given):
        raise refuse(
            400, "invalid", f"targetSystem 应为 URI，最多 {MOST_TARGETS} 个", f"targetSystem is a URI, at most {MOST_TARGETS} of them",
            "targetSystem",
        )  # fmt: skip
    return [v.strip() for v in given]


def resolve(cur: Any, scope: Scope, here: str, system: str, value: str) -> int | None:
    """The person behind an identifier that ``scope`` may ask about; None when there is none it may see."""
    if system.rstrip("/") == here:
        held = _by_id(cur, value.removeprefix("Patient/"))
    else:
        held = identifiers.holders(cur, system, value)
    own = {h.person_id for h in held if h.institution_id in scope.institution_ids}
    everyone = sorted({h.person_id for h in held})
    seen = [p for p in everyone if p in own]
    others = [p for p in everyone if p not in own and visible.open_person(scope, p)]
    if others:
        related = relationships.seen(scope, others, cursor=cur)
        seen += [p for p in others if p in related]
    return seen[0] if len(set(seen)) == 1 else _one(seen, held, own)


def _one(seen: list[int], held: list[Held], own: set[int]) -> int | None:
    """One number held by several people: the asker's own registration decides, else it is nobody's."""
    mine = [p for p in seen if p in own]
    return mine[0] if len(set(mine)) == 1 else None


def _by_id(cur: Any, patient_id: str) -> list[Held]:
    if persons.is_number(patient_id):
        person_id = persons.by_number(cur, patient_id)
        return [] if person_id is None else [Held("", patient_id, person_id, 0)]
    cur.execute(
        "SELECT person_id, institution_id, id FROM index_sourcerecord WHERE patient_id = %s",
        [patient_id[:64]],
    )
    return [Held("", patient_id, row[0], row[1], patient_id, row[2]) for row in cur.fetchall()]


def visible_to(cur: Any, scope: Scope, held: list[Held], targets: set[str]) -> list[Held]:
    """Those identifiers that ``scope`` may be told, of the wanted systems (none named: all), each once."""
    wanted = [h for h in held if not targets or h.system in targets]
    sharing = domains.sharing_of(h.system for h in wanted)
    told: dict[tuple[str, str], Held] = {}
    for one in wanted:
        if domains.open_to(
            scope, one.institution_id, sharing.get((one.system, one.institution_id), PARTNERS)
        ):
            told.setdefault((one.system, one.value), one)
    return list(told.values())


def patients_of(cur: Any, scope: Scope, person_id: int) -> list[str]:
    """Ids of the person's Patients that ``scope`` may see: the golden one and those of the registrations."""
    cur.execute("SELECT number FROM index_person WHERE id = %s", [person_id])
    number = cur.fetchone()[0]
    cur.execute(
        "SELECT patient_id FROM index_sourcerecord WHERE person_id = %s AND patient_id IS NOT NULL ORDER BY id LIMIT %s",
        [person_id, identifiers.MOST],
    )
    found = gather.by_ids(cur, scope, {"Patient": {row[0] for row in cur.fetchall()}})
    golden = persons.virtual(cur, scope, number)
    active = [r.id for r in found if '"active":false' not in r.body.replace(" ", "")]
    return [*([golden.id] if golden else []), *sorted(active)]


def _known_source(cur: Any, here: str, system: str) -> bool:
    return system.rstrip("/") == here or domains.known(cur, system)


def _unknown_number() -> Problem:
    return refuse(
        404,
        "not-found",
        "没有您可查询的该患者标识",
        "sourceIdentifier Patient Identifier not found",
        "sourceIdentifier",
    )


def _unknown_system() -> Problem:
    return refuse(
        400, "code-invalid", "不认识 sourceIdentifier 的发号机构（system）", "sourceIdentifier Assigning Authority not found",
        "sourceIdentifier",
    )  # fmt: skip


def _unknown_target(system: str) -> Problem:
    return refuse(
        403, "code-invalid", f"没有向您开放的标识域 {system[:200]}", "targetSystem not found", "targetSystem"
    )


def is_uri(text: str) -> bool:
    """Whether a text is an absolute URI (what a system of identifiers must be)."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path) and not any(c.isspace() for c in text)
