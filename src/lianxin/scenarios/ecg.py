"""ECGs of the demonstration: the cath lab, and a handful of synthetic recordings that a village clinic sent."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import numpy as np

from lianxin.access.models import Account, Relationship
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network.models import Capability, Institution, Post
from lianxin.regional.ecg import service
from lianxin.regional.ecg.models import Tracing
from lianxin.standards import clock

_LEADS = {
    "I": (80, 700, -120, 200), "II": (150, 1200, -150, 320), "V1": (60, 250, -900, 60), "V2": (70, 400, -1100, 350),
    "V3": (70, 700, -700, 420), "V4": (80, 1400, -300, 450), "V5": (80, 1300, -150, 350), "V6": (80, 1000, -80, 260),
}  # fmt: skip
_STORIES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("体检", {}, "routine"),
    ("胸痛、胸闷", {"st": {"V1": 150, "V2": 300, "V3": 350, "V4": 200}}, "emergency"),
    ("心悸", {"rr": (620, 900, 710, 1050, 560, 830), "p": False}, "routine"),
    ("晕厥、黑矇", {"rr": (1350,)}, "routine"),
)


def play(now: dt.datetime) -> int:
    """The lead hospital gets its cath lab, and a village clinic of its county sends some ECGs; how many (0: there were some already)."""
    lead = Institution.objects.filter(posts__role="reader").order_by("code").first()
    village = (
        Institution.objects.filter(kind="village", posts__role="village_doctor").order_by("code").first()
    )
    if lead is None or village is None:
        return 0
    Capability.objects.get_or_create(
        institution=lead, kind="procedure", code="PCI", until=None,
        defaults={"name": "急诊冠状动脉介入", "name_en": "Primary coronary intervention", "since": dt.date(2020, 1, 1)},
    )  # fmt: skip
    by = _doctor(village)
    if (
        by is None
        or Tracing.objects.unscoped("was this played already?").filter(institution=village).exists()
    ):
        return 0
    people = Relationship.objects.filter(institution=village, kind="home", until=None).order_by("person_id").values_list("person_id", flat=True)  # fmt: skip
    rows = Person.objects.unscoped("the clinic's own residents").filter(pk__in=list(people[:60]), status="active", deceased_on=None, birth_date__lt=dt.date(1985, 1, 1))  # fmt: skip
    count = 0
    with clock.at(now):
        for person, (words, heart, priority) in zip(rows.order_by("pk"), _STORIES, strict=False):
            data = recording(person.number, now, **heart)
            service.order_and_send(by, person.pk, {"indication": words}, "ecg.csv", data, f"demo-ecg:{village.code}:{count}", priority=priority)  # fmt: skip
            count += 1
    return count


def _doctor(village: Institution) -> Scope | None:
    post = Post.objects.live().filter(institution=village, role="village_doctor").order_by("pk").first()
    account = Account.objects.filter(practitioner_id=post.practitioner_id).first() if post else None
    return scope_for_account(account, post) if account and post else None


def recording(
    patient: str, at: dt.datetime, *, rr: tuple[int, ...] = (800,), st: dict[str, int] | None = None, p: bool = True
) -> bytes:  # fmt: skip
    """A made-up ten-second recording at 250 Hz as a table: cosine waves with a little noise."""
    t = np.arange(2500) * 4.0
    onsets, when, n = [], 300.0, 0
    while when < 11_000:
        onsets.append(when)
        when, n = when + rr[n % len(rr)], n + 1
    noise = np.random.default_rng(abs(hash_of(patient)))
    rows = []
    for lead, (pw, r, s, tw) in _LEADS.items():
        row = sum((_beat(t - o, (pw if p else 0, r, s, tw), (st or {}).get(lead, 0)) for o in onsets), np.zeros(len(t)))  # fmt: skip
        rows.append(row + 6 * noise.standard_normal(len(t)))
    out = io.StringIO()
    out.write(f"# hz: 250\n# unit: uV\n# patient: {patient}\n# time: {at.isoformat(timespec='seconds')}\n{','.join(_LEADS)}\n")  # fmt: skip
    np.savetxt(out, np.array(rows).T, fmt="%.1f", delimiter=",")
    return out.getvalue().encode()


def hash_of(text: str) -> int:
    """A number from a text, the same on every run."""
    return int.from_bytes(text.encode()[-7:], "big")


def _bump(t: Any, start: float, end: float) -> Any:
    return np.where((t > start) & (t < end), 0.5 - 0.5 * np.cos(2 * np.pi * (t - start) / (end - start)), 0.0)


def _beat(t: Any, waves: tuple[int, int, int, int], lift: int) -> Any:
    p, r, s, tw = waves
    made = p * _bump(t, -160, -60) + r * _bump(t, 18, 66) + s * _bump(t, 57, 90) + tw * _bump(t, 180, 380)
    if lift:
        made = made + lift * np.clip((t - 82) / 8, 0, 1) * np.clip((380 - t) / 80, 0, 1)
    return made
