"""Critical values in the demonstration: one box of tubes whose potassium, glucose and haemoglobin could not wait, each call in another state.

The calls come from the laboratory's own verification, as they do in life; the last one waits to be read back when the demonstration opens.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.regional.critical import service as calls
from lianxin.regional.critical.models import Critical
from lianxin.regional.laboratory import devices, results, service, transport
from lianxin.regional.laboratory.models import Analyser
from lianxin.regional.reading.models import Item, Reading
from lianxin.scenarios.laboratory import BODY
from lianxin.standards import clock

TUBES = (
    ("LAB-BMP", {"K": "6.92"}, "乏力、尿少三天", "closed"),
    ("LAB-GLU", {"GLU": "2.21"}, "出汗、心慌", "acted"),
    ("LAB-CBC", {"HGB": "47"}, "头晕、黑便", "acknowledged"),
    ("LAB-BMP", {"K": "2.31"}, "四肢无力", "notified"),
)  # fmt: skip
"""What was ordered, which values were critical, why it was ordered, how far the call came."""
_DONE = {
    "closed": ("referred", "葡萄糖酸钙静推，联系县医院急诊转诊"),
    "acted": ("treated", "50% 葡萄糖 40 mL 静推，复测 5.8 mmol/L"),
}


def play(seed: int, now: dt.datetime) -> int:
    """Play one afternoon up to ``now``; how many calls. Nothing when there are some already or nobody works in a laboratory."""
    posts = Post.objects.live().select_related("practitioner", "institution").order_by("pk")
    lab = list(posts.filter(role=roles.LABORATORY, practitioner__accounts__is_active=True)[:3])
    gp = posts.filter(
        role=roles.GP, institution__kind="township", practitioner__accounts__is_active=True
    ).first()
    if len(lab) < 3 or gp is None or Critical.objects.unscoped("was it played before").exists():
        return 0
    collector = posts.filter(
        role=roles.TECHNICIAN, institution=gp.institution, practitioner__accounts__is_active=True
    ).first()
    people = list(
        Person.objects.unscoped("the demonstration's own residents").filter(merged_into=None, status="active", deceased_on=None, birth_date__lte=dt.date(1970, 1, 1))
        .order_by("number")[60 : 60 + 31 * len(TUBES) : 31]
    )  # fmt: skip
    works = _measured(seed, now, _scope(gp), _scope(collector or gp), [_scope(p) for p in lab], people)
    for n, (work, (_, _, _, state)) in enumerate(zip(works, TUBES, strict=False)):
        _answered(work, state, _scope(gp), _scope(lab[1]), now - dt.timedelta(minutes=40 - 13 * n), f"scenario:critical:{seed}:{n}")  # fmt: skip
    return len(works)


def _scope(post: Post) -> Scope:
    return scope_for_account(Account.objects.get(practitioner=post.practitioner), post)


def _measured(
    seed: int, now: dt.datetime, gp: Scope, collector: Scope, lab: list[Scope], people: list[Person]
) -> list[Reading]:
    """The tubes of one box, measured in the county's laboratory."""
    lead = lab[0].institution_id
    township = gp.institution_id
    works: list[Reading] = []
    for n, (person, (item, _, why, _)) in enumerate(zip(people, TUBES, strict=False)):
        key = f"scenario:critical:{seed}:{n}"
        with clock.at(now - dt.timedelta(minutes=150 - n)):
            work = service.order(
                gp, person.pk, [Item.objects.get(code=item)], {"indication": why}, key, performer=_place(township), centre_of=_place(lead), priority="urgent",
            )  # fmt: skip
            form = {"identity": "asked", "container": "on", "volume_ml": "4"}
            service.act(collector, work.case.number, "collect", form, None, f"{key}:collect")
        works.append(work)
    tubes = [service.reading_of(w.case).laboratory.specimen.number for w in works]
    with clock.at(now - dt.timedelta(minutes=140)):
        box = transport.open_box(collector, _place(lead), Decimal(2), Decimal(8))
        for tube in tubes:
            transport.pack(collector, box.number, tube)
        transport.seal(collector, box.number, "县域标本转运 01 车")
    with clock.at(now - dt.timedelta(minutes=120)):
        transport.log(collector, box.number, [(clock.now(), Decimal("5.1"))])
    with clock.at(now - dt.timedelta(minutes=90)):
        service.receive_box(lab[1], box.number, tubes, f"scenario:critical:{seed}")
    for work, (_, odd, _, _) in zip(works, TUBES, strict=False):
        with clock.at(now - dt.timedelta(minutes=55)):
            wanted = results.expected(service.reading_of(work.case))
            rows = [
                {"test": c, "raw": v, "at": clock.now().isoformat()}
                for c, v in (BODY | odd).items()
                if c in wanted
            ]
            analyser = Analyser.objects.filter(
                institution_id=lead or 0, tests__has_key=next(iter(odd)), active=True
            ).first()
            devices.take(lead or 0, analyser, work.accession, rows, analyser.protocol if analyser else "astm")
    return works


def _place(pk: int | None) -> Institution:
    return Institution.objects.get(pk=pk or 0)


def _answered(work: Reading, state: str, gp: Scope, lab: Scope, at: dt.datetime, key: str) -> None:
    """Verified, so called; then read back, acted on and closed as far as ``state``."""
    if state == "notified":
        at = work.case.opened_at + dt.timedelta(minutes=147)  # just now: it waits to be read back
    if not Case.objects.unscoped("the scenario's own").filter(pk=work.pk, state="resulted").exists():
        return
    with clock.at(at):
        service.act(lab, work.case.number, "verify", {"notified": "1"}, None, f"{key}:verify")
    call = Critical.objects.unscoped("the scenario's own").select_related("case").filter(source_case_id=work.pk).order_by("pk").first()  # fmt: skip
    if call is None or state == "notified":
        return
    number = call.case.number
    with clock.at(at + dt.timedelta(minutes=2)):
        calls.act(gp, number, "acknowledge", {"readback": call.value}, None, f"{key}:back")
    if state not in _DONE:
        return
    action, note = _DONE[state]
    with clock.at(at + dt.timedelta(minutes=9)):
        calls.act(gp, number, "act", {"action": action, "note": note}, None, f"{key}:act")
    if state == "closed":
        with clock.at(at + dt.timedelta(minutes=30)):
            calls.act(lab, number, "close", {"note": "县医院复查血钾 4.9 mmol/L"}, None, f"{key}:close")
