"""What pages, doors and the ECG centre call. Every change goes through ``duty.kernel``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network import directory
from lianxin.network.models import Capability, Institution
from lianxin.regional.ecg import rules as ecg_rules
from lianxin.regional.ecg import service as ecg
from lianxin.regional.ecg.models import Confirmation, Tracing
from lianxin.regional.emergency import moves, policy
from lianxin.regional.emergency.effects import Ask
from lianxin.regional.emergency.models import Channel
from lianxin.standards.text import T


def lab_for(centre: Institution) -> Institution:
    """Whose cath lab is asked first: the centre's own, else the first of its consortium with the capability, else the centre."""
    code = str(policy.value("pci.capability", centre.pk))
    with_lab = list(Capability.objects.live().filter(kind="procedure", code=code).select_related("institution").order_by("institution__code"))  # fmt: skip
    own = [c.institution for c in with_lab if c.institution_id == centre.pk]
    near = [c.institution for c in with_lab if directory.same_consortium(c.institution, centre)]
    return (own or near or [centre])[0]


def live_of(person_id: int) -> Channel | None:
    """The open channel of a person."""
    found: Channel | None = Channel.objects.unscoped("one live channel a person").filter(person_id=person_id, live=True).select_related("case").first()  # fmt: skip
    return found


def start(by: Scope, person_id: int, form: Mapping[str, Any], key: str) -> Channel:
    """Open at first contact. An ECG of the last hours counts as the first. Raises Refused when one is open already, NotAllowed."""
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))
    here = Institution.objects.select_related("parent").get(pk=by.institution_id)
    centre = ecg.centre_for(here)
    ask = Ask(first=here, centre=centre, lab=lab_for(centre))
    return _open(by, person_id, "open", form, key, ask, {"first": here.pk})


def _open(by: Scope, person_id: int, move: str, form: Mapping[str, Any], key: str, ask: Ask, parties: dict[str, int]) -> Channel:  # fmt: skip
    try:
        with transaction.atomic():
            done = kernel.open_case(
                moves.KIND, person_id, by, form, key, parties=parties, move=move, priority="emergency", extra={"ask": ask}
            )  # fmt: skip
    except IntegrityError as error:
        if "emergency_channel_one_live" not in str(error):
            raise
        raise _already(person_id) from error
    made: Channel = ask.made or Channel.objects.unscoped("the result of the same request").get(
        pk=done.case.pk
    )
    return made


def _already(person_id: int) -> Refused:
    found = live_of(person_id)
    number = found.case.number if found else ""
    return Refused({"__all__": T("此人已有进行中的胸痛绿色通道 {no}。", "A chest-pain channel is open for this person: {no}.").format(no=number)})  # fmt: skip


def act(by: Scope, number: str, move: str, form: Mapping[str, Any] | None = None, version: int | None = None, key: str = "") -> kernel.Done:  # fmt: skip
    """Make a move. Raises like ``duty.kernel.execute``."""
    return kernel.execute(move, number, by, form or {}, version, key)


def on_confirmed(by: Scope, confirmation: Confirmation) -> None:
    """A reader confirmed a critical ECG: an infarction opens the channel, or is the diagnosis of the one that is open."""
    what = ecg_rules.criticals().get(confirmation.code)
    if what is None or not what.channel:
        return
    key = f"ecg-confirmed:{confirmation.pk}"
    live = live_of(confirmation.person_id)
    if live is not None:
        if live.case.state in ("contact", "waiting") and live.centre_id in by.institution_ids:
            if live.reading_id is None:
                Channel.objects.unscoped("the channel's own ECG").filter(pk=live.pk).update(reading_id=confirmation.reading_id, finding=confirmation.code)  # fmt: skip
            kernel.execute("diagnose", live.case, by, {"note": confirmation.note}, None, key)
        return
    reading = confirmation.reading
    tracing: Tracing = confirmation.tracing
    ask = Ask(
        first=reading.performer, centre=reading.centre_of, lab=lab_for(reading.centre_of), reading=reading, finding=confirmation.code,
        fmc_at=min(reading.ordered_at, tracing.taken_at), ecg_at=min(tracing.taken_at, confirmation.at),
    )  # fmt: skip
    _open(by, confirmation.person_id, "open_confirmed", {}, key, ask, {"centre": reading.centre_of_id})
