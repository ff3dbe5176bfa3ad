"""Where the record meets the index: registering Patients, finding whose record a resource is, and following moves.

``record_patient`` maps every patient reference the record knows (stored Patients and 10-digit person numbers) to the person
behind it now.  ``Patient/<person number>`` is virtual: it is built from the index and stands for all sources together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lianxin.access.scope import Scope
from lianxin.index import foreign, registry
from lianxin.index.models import Person
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.record import text
from lianxin.record.keys import ref_key
from lianxin.record.problems import Problem, refuse
from lianxin.standards.identifiers import number_valid

if TYPE_CHECKING:
    from lianxin.record.store import Result, Write

SYSTEM = "urn:lianxin:fhir"  # the index knows a stored Patient by its FHIR id
CHAIN_LIMIT = 20  # merges followed


@dataclass(slots=True)
class Place:
    """The person behind a patient reference, and the institution that sent that Patient (None: the person's number)."""

    person_id: int
    institution_id: int | None = None
    new: bool = False


def is_number(patient_id: str) -> bool:
    """Whether a Patient id is a person number of the index (10 digits with a right check digit)."""
    return len(patient_id) == 10 and patient_id.isdigit() and number_valid(patient_id)


def by_number(cur: Any, number: str) -> int | None:
    """Person behind a number, merges followed; None when there is none."""
    cur.execute(
        "WITH RECURSIVE p AS (SELECT id, merged_into_id, 0 AS n FROM index_person WHERE number = %s UNION ALL"
        " SELECT q.id, q.merged_into_id, p.n + 1 FROM p JOIN index_person q ON q.id = p.merged_into_id WHERE p.n < %s)"
        " SELECT id FROM p WHERE merged_into_id IS NULL",
        [number, CHAIN_LIMIT],
    )
    row = cur.fetchone()
    return row[0] if row else None


def source_of(resource: dict[str, Any], source: int | None) -> int:
    """Institution a Patient comes from: the writer's, else its managingOrganization (``Organization/<code>``), else outside."""
    if source is not None:
        return source
    reference = resource.get("managingOrganization", {}).get("reference", "")
    found = Institution.objects.filter(code=reference.rpartition("/")[2]).values_list("pk", flat=True).first()
    return found if found is not None else directory.outside().pk


def assign(
    cur: Any,
    scope: Scope,
    wanted: Sequence[tuple["Write", str, tuple[str, str] | None]],
    source: int | None,
    platform: bool,
) -> dict[int, Place]:
    """Person behind every patient reference of a batch, by key; Patients of the batch are registered with the index."""
    places: dict[int, Place] = {}
    patients = [(w, rid) for w, rid, _ in wanted if w.rtype == "Patient"]
    if patients:
        places.update(_register(cur, scope, patients, source))
    others = {ref: place for _, _, ref in wanted if ref for place in [ref[0]]}
    missing = {
        ref_key(f"Patient/{ref[0]}"): ref for ref in others if ref_key(f"Patient/{ref[0]}") not in places
    }
    if missing:
        cur.execute(
            "SELECT p.subj, p.person_id, r.institution_id FROM record_patient p LEFT JOIN record_resource r ON r.key = p.subj"
            " WHERE p.subj = ANY(%s::bigint[])",
            [list(missing)],
            prepare=True,
        )
        for key, person_id, institution_id in cur.fetchall():
            places[key] = Place(person_id, institution_id)
    for key, (patient_id, path) in missing.items():
        if key in places:
            continue
        person_id = by_number(cur, patient_id) if is_number(patient_id) else None
        if person_id is None:
            place = next((w.place for w, _, ref in wanted if ref and ref[0] == patient_id), "")
            problem = (
                refuse(
                    422,
                    "not-found",
                    f"没有 Patient/{patient_id}，请先登记患者",
                    f"there is no Patient/{patient_id}; register the patient first",
                    path,
                )
                if scope.everything
                else unreachable(patient_id, path)
            )
            raise problem.at(place) if place else problem
        places[key] = Place(person_id)
        remember(cur, [(key, patient_id, person_id)])
    return places


def unreachable(patient_id: str, path: str) -> Problem:
    """A patient that an institution may not write about: the same answer whether there is none or it has no relationship."""
    return refuse(
        403,
        "forbidden",
        f"没有您可写入的 Patient/{patient_id}：请先登记该患者（登记后即有诊疗关系），再写入",
        f"there is no Patient/{patient_id} that you may write about: register the patient (this makes the care relationship) first",
        path,
    )


def _home_code(resource: dict[str, Any]) -> str:
    """Code of the institution that looks after the patient: ``Patient.generalPractitioner`` as an Organization."""
    for one in resource.get("generalPractitioner", []):
        kind, _, code = one.get("reference", "").rpartition("/")
        if kind.rpartition("/")[2] == "Organization":
            return code
    return ""


def _homes(resources: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Ids of the home institutions named in a batch, by code."""
    codes = {code for code in map(_home_code, resources) if code}
    return dict(Institution.objects.filter(code__in=codes).values_list("code", "pk")) if codes else {}


def _register(
    cur: Any, scope: Scope, patients: list[tuple["Write", str]], source: int | None
) -> dict[int, Place]:
    given = []
    homes = _homes([write.resource or {} for write, _ in patients])
    for write, _ in patients:
        resource = write.resource or {}
        institution = source_of(resource, source)
        given.append(
            (
                institution,
                foreign.registration_from_patient(
                    resource,
                    institution,
                    system=SYSTEM,
                    local_id=resource["id"],
                    home_institution_id=homes.get(_home_code(resource)),
                ),
            )
        )
    done = registry.register_many(scope, [reg for _, reg in given], cursor=cur)
    places, rows = {}, []
    for (_, rid), (institution, _), registered in zip(patients, given, done, strict=True):
        key = ref_key(f"Patient/{rid}")
        places[key] = Place(registered.person_id, institution, True)
        rows.append((key, rid, registered.person_id))
    remember(cur, rows)
    return places


def remember(cur: Any, rows: Sequence[tuple[int, str, int]]) -> None:
    """Note the person behind patient references: (key, Patient id, person)."""
    cur.execute(
        "INSERT INTO record_patient (subj, patient_id, person_id) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[])"
        " ON CONFLICT (subj) DO UPDATE SET person_id = EXCLUDED.person_id WHERE record_patient.person_id <> EXCLUDED.person_id",
        [list(c) for c in zip(*rows, strict=True)],
    )


def follow(cur: Any, patient_id: str, person_id: int) -> int:
    """A source Patient now belongs to another person: its resources go along. Returns how many moved."""
    key = ref_key(f"Patient/{patient_id}")
    cur.execute("SELECT person_id FROM record_patient WHERE subj = %s FOR UPDATE", [key])
    row = cur.fetchone()
    if row is None or row[0] == person_id:
        return 0
    cur.execute("UPDATE record_patient SET person_id = %s WHERE subj = %s", [person_id, key])
    cur.execute(
        "UPDATE record_resource SET person_id = %s WHERE person_id = %s AND subj = %s",
        [person_id, row[0], key],
    )
    return cur.rowcount


def virtual(cur: Any, scope: Scope, patient_id: str) -> "Result | None":
    """The golden Patient of a person number, when the scope may see that person; None otherwise."""
    from lianxin.access import relationships
    from lianxin.record import visible
    from lianxin.record.store import Result, moment, stamp

    if not is_number(patient_id):
        return None
    person_id = by_number(cur, patient_id)
    if (
        person_id is None
        or not visible.open_person(scope, person_id)
        or not relationships.seen(scope, [person_id], cursor=cur)
    ):
        return None
    person = Person.objects.unscoped("the relationship was checked").get(pk=person_id)
    resource = registry.golden_patient(person)
    now = moment()
    raw = text.dumps({**resource, "resourceType": "Patient"})
    return Result(
        200,
        "Patient",
        person.number,
        person.version,
        now,
        text.splice(raw, person.number, person.version, stamp(now)),
        person_id,
    )
