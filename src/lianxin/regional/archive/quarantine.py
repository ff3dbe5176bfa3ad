"""What waits for somebody to decide: attach it to an order's person, reject it, take it up again. Every decision has its reason and is audited.

Attaching needs an order that the sending institution performed: its accession number says whose the images are from now on, and the header
of what is delivered is corrected to that person. UIDs that belong to somebody else are renewed. The received bytes stay as they are.
"""

from __future__ import annotations

from typing import Any

import orjson
from django.db import transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope, institutions_for
from lianxin.duty.errors import Refused
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.archive import hooks, settle, taking
from lianxin.regional.archive.models import Instance, Series, Study
from lianxin.standards import clock
from lianxin.standards.text import T

MOST_REASON = 300


def said(study: Study) -> dict[str, str]:
    """What the header says of the patient."""
    return dict(orjson.loads(seal.unseal(study.header))) if study.header else {}


def waiting(scope: Scope) -> Any:
    """Studies that wait at the institutions of whoever reconciles, the oldest first."""
    scope.demand("reconcile_images")
    return (
        Study.objects.unscoped("whoever reconciles decides about what their institution sent")
        .filter(state__in=["quarantined", "rejected"], institution_id__in=scope.institution_ids)
        .select_related("institution", "device")
    )


def _locked(scope: Scope, pk: int, state: str) -> Study:
    study: Study | None = waiting(scope).select_for_update(of=("self",)).filter(pk=pk, state=state).first()
    if study is None:
        raise Refused(
            {
                "": T(
                    "这项检查已经处理过，请刷新页面。",
                    "This study has been decided already; reload the page.",
                )
            }
        )
    return study


def _reason(text: str) -> str:
    text = text.strip()[:MOST_REASON]
    if len(text) < 2:
        raise Refused({"reason": T("请写明理由。", "Say why.")})
    return text


@transaction.atomic
def attach(scope: Scope, pk: int, accession: str, reason: str) -> Study:
    """Attach a quarantined study to the person of an order. Raises Refused, NotPermitted."""
    study = _locked(scope, pk, "quarantined")
    reason = _reason(reason)
    order = hooks.order(accession.strip())
    if order is None:
        raise Refused(
            {"accession": T("没有这个检查号，请核对。", "There is no such accession number; check it.")}
        )
    if order.performer_id not in institutions_for(Institution.objects.get(pk=study.institution_id)):
        raise Refused(
            {
                "accession": T(
                    "这份申请不由发来影像的机构检查。",
                    "This order is not performed where the images came from.",
                )
            }
        )
    person = Person.objects.unscoped("the order's person").get(pk=order.person_id)
    rows = Study.objects.unscoped("the archive keeps study UIDs apart")
    taken = rows.filter(study_uid=study.sent_uid, state="stored").exclude(pk=study.pk).exists()
    study.state, study.person, study.order_number = "stored", person, order.number
    study.accession, study.coerced, study.reason = accession.strip()[:16], True, reason
    study.decided_by, study.decided_at = scope.account_id, clock.now()
    study.settle_at = clock.now()
    if taken or study.problem == "sop_conflict":
        _renew(study)
    study.problem = ""
    study.save()
    audit.write(
        scope, "update", person_id=person.pk, what=f"study {study.pk}",
        detail={"did": "attached", "accession": study.accession, "reason": reason, "renewed": study.study_uid != study.sent_uid},
    )  # fmt: skip
    transaction.on_commit(lambda: settle.ended([study.pk]))
    return study


def _renew(study: Study) -> None:
    """Give a study and all in it UIDs of their own."""
    study.study_uid = taking.new_uid(study, study.sent_uid)
    for series in Series.objects.filter(study=study):
        series.uid = taking.new_uid(study, series.sent_uid)
        series.save(update_fields=["uid"])
    for one in Instance.objects.filter(study=study):
        one.sop_uid, one.live = taking.new_uid(study, one.sent_uid), True
        one.save(update_fields=["sop_uid", "live"])


@transaction.atomic
def reject(scope: Scope, pk: int, reason: str) -> Study:
    """Say that a study is not to be kept with anybody; its files stay, it is shown no more. Raises Refused, NotPermitted."""
    study = _locked(scope, pk, "quarantined")
    study.reason = _reason(reason)
    study.state, study.decided_by, study.decided_at, study.settle_at = (
        "rejected",
        scope.account_id,
        clock.now(),
        None,
    )
    study.save()
    Instance.objects.filter(study=study).update(live=False)
    audit.write(scope, "update", what=f"study {study.pk}", detail={"did": "rejected", "reason": study.reason})
    return study


@transaction.atomic
def reopen(scope: Scope, pk: int) -> Study:
    """A rejected study waits again. Raises Refused, NotPermitted."""
    study = _locked(scope, pk, "rejected")
    study.state = "quarantined"
    study.save(update_fields=["state"])
    taking.revive(study)
    audit.write(scope, "update", what=f"study {study.pk}", detail={"did": "reopened"})
    return study
