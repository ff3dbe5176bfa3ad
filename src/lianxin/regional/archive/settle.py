"""A study is complete: its sender ended, or nothing new came for a while. It is published, told to those who wait for it, moved on."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from lianxin.regional.archive import hooks, orthanc, publish
from lianxin.regional.archive.models import Study
from lianxin.standards import clock

log = logging.getLogger(__name__)

AGAIN = dt.timedelta(minutes=1)
AT_ONCE = 200


def due() -> int:
    """Settle every study whose time has come; returns how many. Periodic."""
    rows = Study.objects.unscoped("complete studies are told")
    done = 0
    for pk in rows.filter(settle_at__lte=clock.now()).order_by("settle_at").values_list("pk", flat=True)[:AT_ONCE]:  # fmt: skip
        done += _settle(pk)
    if settings.LIANXIN_ORTHANC_URL:
        orthanc.move_on()
    return done


def ended(study_ids: Iterable[int]) -> None:
    """The sender of these studies has ended (association released, step completed, upload done): they are complete now."""
    for pk in sorted(set(study_ids)):
        _settle(pk)


def _settle(pk: int) -> bool:
    """Settle one study; False when it was settled meanwhile or could not be."""
    try:
        with transaction.atomic():
            study: Study | None = (
                Study.objects.unscoped("complete studies are told")
                .select_for_update(of=("self",))
                .select_related("person", "institution", "device")
                .filter(Q(settle_at__isnull=False), pk=pk)
                .first()
            )
            if study is None:
                return False
            study.settle_at, study.settled = None, study.instances
            study.save(update_fields=["settle_at", "settled"])
            if study.state == "stored":
                publish.study(study)
                hooks.tell(study)
            return True
    except Exception:  # a room above that fails must not stop the others, nor lose this one
        log.exception("study %s is not told yet", pk)
        Study.objects.unscoped("it is tried again").filter(pk=pk, settle_at__isnull=False).update(
            settle_at=clock.now() + AGAIN
        )
        return False
