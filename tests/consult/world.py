"""A small made-up county with an expert pool, for the tests of consultations and outreach. Names are invented."""

from __future__ import annotations

import itertools
from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Case, Duty
from lianxin.record import publish
from lianxin.regional.consult import service
from lianxin.regional.consult.models import Consult, Expert
from tests.factories import SmallCounty
from tests.reading import world as reading

_serial = itertools.count(1)
scope_of = reading.scope_of
published = reading.published


def make_world(prefix: str = "SC") -> SmallCounty:
    """The small county with two experts of the lead hospital and one of the TCM hospital in the pool."""
    county = reading.make_world(prefix)
    for key, fee in (("clinician", 20000), ("surgeon", 10001), ("tcm_clinician", 0)):
        post = county.posts[key]
        Expert.objects.create(
            practitioner=post.practitioner, institution=post.institution, department=post.department,
            specialty=post.department.specialty if post.department else "", fee_fen=fee,
        )  # fmt: skip
        reading.account_of(post)
    return county


def expert(county: SmallCounty, key: str) -> Expert:
    """The expert who holds the post ``key``."""
    return Expert.objects.get(practitioner=county.posts[key].practitioner)


def make_patient(county: SmallCounty, key: str = "gp0") -> int:
    """Somebody cared for at the institution of ``key``, with a report in their record."""
    person = reading.make_person("会诊甲")
    institution = county.posts[key].institution
    relationships.grant(person, institution.pk, "encounter", f"test:{person}")
    number = reading.Person.objects.unscoped("test").values_list("number", flat=True).get(pk=person)
    publish.publish(
        [
            {
                "resourceType": "DiagnosticReport", "id": f"R{number}", "status": "final", "code": {"text": "头颅 CT 平扫"},
                "subject": {"reference": f"Patient/{number}"}, "effectiveDateTime": "2026-03-01T09:00:00+08:00", "conclusion": "左侧基底节区低密度灶",
            }
        ],
        person_id=person, institution_id=institution.pk,
    )  # fmt: skip
    return person


def report_of(person: int) -> str:
    """The reference of the patient's report."""
    number = reading.Person.objects.unscoped("test").values_list("number", flat=True).get(pk=person)
    return f"DiagnosticReport/R{number}"


def form(**fields: Any) -> dict[str, Any]:
    """A request as it is filled in."""
    return {
        "mode": "immediate", "diagnosis": "急性脑梗死？", "history": "左侧肢体无力两小时。", "question": "是否溶栓、转诊？", "phone": "0576-83000000",
        "how": "signed", "given_by": "会诊甲", **fields,
    }  # fmt: skip


def ask(
    county: SmallCounty, by: str = "gp0", person: int | None = None, priority: str = "routine", **fields: Any
) -> Consult:
    """A consultation asked for, with the patient's report laid before the experts."""
    who = person or make_patient(county, by)
    return service.request(
        scope_of(county, by),
        who,
        form(**fields),
        f"c{next(_serial)}",
        materials=[report_of(who)],
        priority=priority,
    )


def act(county: SmallCounty, by: str | Scope, consult: Consult, move: str, **data: Any) -> kernel.Done:
    """Make a move as somebody."""
    scope = by if isinstance(by, Scope) else scope_of(county, by)
    return service.act(scope, consult.case.number, move, data, None, f"k{next(_serial)}")


def state(consult: Consult) -> str:
    """Where the case stands."""
    return str(Case.objects.unscoped("test").get(pk=consult.pk).state)


def owed(consult: Consult) -> set[str]:
    """Kinds of its open duties."""
    return set(
        Duty.objects.unscoped("test").filter(case_id=consult.pk, ended="").values_list("kind", flat=True)
    )
