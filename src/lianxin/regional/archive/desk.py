"""Who may speak DICOM to us, on whose behalf, and what a modality reports of its work.

All work on the database is done by a few threads that keep their connections: associations come and go with threads of their own.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.models import F
from pydicom.dataset import Dataset

from lianxin.access.scope import Scope, institutions_for
from lianxin.access.sharing import partners
from lianxin.network.roles import TECHNICIAN
from lianxin.regional.archive import header, settle
from lianxin.regional.archive.models import Device, Knock, Step, Study
from lianxin.regional.archive.spool import Sender
from lianxin.standards import clock

MOST_KNOCKS = 1000
_CALLING, _CALLED, _LATER = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07), (0x02, 0x03, 0x01)
_pool = ThreadPoolExecutor(4, thread_name_prefix="dicom-desk")


class Turned(NamedTuple):
    """Why somebody is turned away, and DICOM's (result, source, diagnostic)."""

    reason: str
    answer: tuple[int, int, int]


@dataclass(frozen=True)
class Caller:
    """A device that was let in."""

    device_id: int
    ae_title: str
    institution_id: int
    may_store: bool
    may_query: bool
    worklist: bool
    charset: str

    @property
    def sender(self) -> Sender:
        """As a sender of instances."""
        return Sender(self.institution_id, self.device_id, "dicom")


P = ParamSpec("P")
R = TypeVar("R")


def asked(work: Callable[P, R]) -> Callable[P, R]:
    """Run ``work`` on one of the desk's threads and wait for it."""

    @functools.wraps(work)
    def waited(*args: P.args, **kwargs: P.kwargs) -> R:
        def run() -> R:
            close_old_connections()
            return work(*args, **kwargs)

        return _pool.submit(run).result()

    return waited


def admitted(calling: str, called: str, address: str) -> Caller | Turned:
    """Whether ``calling`` may speak to us; a stranger is written down. A database that is away turns everybody away for now."""
    from django.db import Error

    try:
        return _admitted(calling, called, address)
    except Error:
        return Turned("unavailable", _LATER)


@asked
def _admitted(calling: str, called: str, address: str) -> Caller | Turned:
    device = Device.objects.filter(ae_title=calling).first()
    turned: Turned | None = None
    if called != settings.LIANXIN_DICOM_AE:
        turned = Turned("called", _CALLED)
    elif device is None:
        turned = Turned("unknown", _CALLING)
    elif not device.active:
        turned = Turned("inactive", _CALLING)
    elif device.pinned and not same_address(device.address, address):
        turned = Turned("address", _CALLING)
    now = clock.now()
    if turned is not None:
        _write_down(calling[:16], called[:16], address[:45], turned.reason)
        return turned
    assert device is not None
    Device.objects.filter(pk=device.pk).update(last_seen_at=now, last_from=address[:45])
    return Caller(
        device.pk, device.ae_title, device.institution_id, device.may_store, device.may_query, device.worklist, device.charset
    )  # fmt: skip


def _write_down(calling: str, called: str, address: str, reason: str) -> None:
    now = clock.now()
    clean = [text.encode("ascii", "replace").decode().replace("\0", "?") for text in (calling, called)]
    rows = Knock.objects.filter(calling=clean[0], called=clean[1], address=address, reason=reason)
    if not rows.update(count=F("count") + 1, last_at=now) and Knock.objects.count() < MOST_KNOCKS:
        Knock.objects.get_or_create(
            calling=clean[0], called=clean[1], address=address, reason=reason, defaults={"first_at": now, "last_at": now}
        )  # fmt: skip


def same_address(known: str, address: str) -> bool:
    """Whether a connection from ``address`` is the device's host, which is known by number or by name."""
    try:
        given = ipaddress.ip_address(address.split("%")[0])
        given = getattr(given, "ipv4_mapped", None) or given
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(known) == given
    except ValueError:
        pass
    try:
        return any(str(given) == found[4][0] for found in socket.getaddrinfo(known, None))
    except OSError:
        return False


def scope(caller: Caller) -> Scope:
    """What a device may look at: what a technician of its institution may."""
    from lianxin.network.models import Institution

    institution = Institution.objects.get(pk=caller.institution_id)
    ids = institutions_for(institution)
    return Scope(
        institution_id=caller.institution_id, institution_ids=ids, roles=frozenset({TECHNICIAN}), name=caller.ae_title,
        reason=f"DICOM {caller.ae_title}", partner_ids=partners(ids),
    )  # fmt: skip


@asked
def destination(ae_title: str) -> tuple[str, int] | None:
    """Where a device listens; None for one that is not known, not active, or listens nowhere."""
    device = Device.objects.filter(ae_title=ae_title, active=True, port__isnull=False).exclude(address="").first()  # fmt: skip
    return (device.address, device.port) if device is not None and device.port is not None else None


def _text(data: Any, keyword: str, most: int) -> str:
    return str(data.get(keyword, "") or "").replace("\0", "").strip()[:most]


@asked
def step_begun(caller: Caller, uid: str, said: Dataset) -> int:
    """A modality begins (N-CREATE); the DIMSE status. Said again: the same answer."""
    if not header.UID.fullmatch(uid) or len(uid) > 64:
        return 0x0117
    if _text(said, "PerformedProcedureStepStatus", 20) not in ("IN PROGRESS", ""):
        return 0x0106
    order = next(iter(said.get("ScheduledStepAttributesSequence", []) or []), Dataset())
    step, _ = Step.objects.get_or_create(
        uid=uid,
        defaults={
            "device_id": caller.device_id, "accession": _text(order, "AccessionNumber", 16),
            "study_uid": _text(order, "StudyInstanceUID", 64), "started_at": clock.now(),
        },
    )  # fmt: skip
    return 0x0000 if step.device_id == caller.device_id else 0x0111


@asked
def step_ended(caller: Caller, uid: str, said: Dataset) -> int:
    """A modality has completed or broken off a step (N-SET); the DIMSE status. A step that ended does not change any more."""
    state = _text(said, "PerformedProcedureStepStatus", 20)
    if state in ("", "IN PROGRESS"):
        return 0x0000 if Step.objects.filter(uid=uid, device_id=caller.device_id).exists() else 0x0112
    if state not in ("COMPLETED", "DISCONTINUED"):
        return 0x0106
    with transaction.atomic():
        step = Step.objects.select_for_update().filter(uid=uid, device_id=caller.device_id).first()
        if step is None:
            return 0x0112
        if step.state != "IN PROGRESS":
            return 0x0000 if step.state == state else 0x0110
        step.state, step.ended_at = state, max(clock.now(), step.started_at)
        step.save(update_fields=["state", "ended_at"])
    if state == "COMPLETED" and step.study_uid:
        rows = Study.objects.unscoped("the modality has completed its step")
        settle.ended(
            rows.filter(
                sent_uid=step.study_uid, institution_id=caller.institution_id, settle_at__isnull=False
            ).values_list("pk", flat=True)
        )
    return 0x0000
