"""The golden story in a real Chromium: every step by the person whose job it is, on the page where the duty leads them.

Hospital people sit at 1440 px, township people hold a 390 px phone. ``LIANXIN_SHOTS=<folder>`` keeps a picture of the key screens.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from lianxin.access import tokens
from lianxin.access.models import AuditEvent
from lianxin.clinical.referral.models import Followup, Referral
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.scenarios import build
from lianxin.standards import checks, clock
from tests.golden import group as g
from tests.golden.test_fhir import Hospital

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONES = {"gp", "family", "township_reception", "other_gp"}
PATIENCE = 15_000  # milliseconds: a busy machine is slow, not wrong
expect.set_options(timeout=PATIENCE)
SHOTS = os.environ.get("LIANXIN_SHOTS", "")


class Cast:
    """The people of the story, each signed in at their own screen; every console error and policy violation is kept."""

    def __init__(self, browser: Browser, live: str, group: g.Group) -> None:
        self.browser, self.live, self.group = browser, live, group
        self.contexts: dict[str, BrowserContext] = {}
        self.pages: dict[str, Page] = {}
        self.faults: list[str] = []
        self.expected = 0
        self.taken = 0

    def __getitem__(self, who: str) -> Page:
        if who not in self.pages:
            width = {"width": 390, "height": 844} if who in PHONES else {"width": 1440, "height": 900}
            context = self.browser.new_context(
                locale="zh-CN",
                timezone_id="Asia/Shanghai",
                viewport=width,
                has_touch=who in PHONES,
                base_url=self.live,
            )  # type: ignore[arg-type]
            self.contexts[who], self.pages[who] = context, context.new_page()
            page = self.pages[who]
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: self.faults.append(f"{who}: {error}"))
            page.on("console", lambda m: self.heard(who, m))
            self.sign_in(who)
        return self.pages[who]

    def heard(self, who: str, message: Any) -> None:
        """Refusals (403, 404, 422) are said by the browser too; they are counted where they are wanted."""
        if message.type == "error" and "the server responded with a status of 4" not in message.text:
            self.faults.append(f"{who} {self.pages[who].url}: {message.text} {message.location}")

    def sign_in(self, who: str) -> None:
        """Through the sign-in page."""
        page = self.pages[who]
        page.goto("/login")
        page.fill("#id_username", self.group.people[who])
        page.fill("#id_password", build.DEMO_PASSWORD)
        page.press("#id_password", "Enter")
        page.wait_for_url(f"{self.live}/")

    def shot(self, who: str, name: str) -> None:
        """A picture of the whole page; nobody scrolls sideways."""
        page = self.pages[who]
        width = page.viewport_size["width"]  # type: ignore[index]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (who, name, page.url)
        self.taken += 1
        page.evaluate("window.scrollTo(0, 0)")
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{SHOTS}/{self.taken:02d}-{name}-{width}.png", full_page=True)

    def duty(self, who: str, button: str) -> Page:
        """From the workbench to the duty about her whose button reads so."""
        page = self[who]
        page.goto("/")
        line = (
            page.locator("[data-line]")
            .filter(has_text=g.NAME)
            .filter(has=page.locator(f"[data-act]:text-is('{button}')"))
        )
        expect(line).to_have_count(1)
        expect(line.locator(".clock")).to_be_visible()
        line.locator("[data-act]").click()
        page.wait_for_load_state()
        return page

    def refused(self, who: str, person: str, *referrals: str) -> None:
        """Neither her record nor her referrals open, and no name is shown in full."""
        page = self[who]
        answer = page.goto(f"/people/{person}")
        assert answer is not None
        assert answer.status == 403
        expect(page.locator("body")).not_to_contain_text(g.NAME)
        for number in referrals:
            for path in (f"/referrals/{number}", f"/referrals/{number}/form.pdf"):
                reply = page.request.get(path)
                assert reply.status in (403, 404), (who, path, reply.status)
                assert g.NAME not in reply.text()
        page.goto("/")
        expect(page.locator("body")).not_to_contain_text(g.NAME)


@pytest.fixture
def cast(browser: Browser, group: g.Group, live: str) -> Iterator[Cast]:
    """The group with everybody's account, on a live server."""
    wanted = set(group.people.values())
    plan = group.plan
    plan.people = [row for row in plan.people if build.username_of(row) in wanted]
    build.open_accounts(plan)
    made = Cast(browser, live, group)
    yield made
    if SHOTS:  # where everybody stood at the end: the first thing to look at when the story broke off
        for who, page in made.pages.items():
            page.screenshot(path=f"{SHOTS}/last-{who}.png", full_page=True)
    for context in made.contexts.values():
        context.close()


def submit(page: Page, button: Locator) -> None:
    """Press, and wait for the page that answers."""
    with page.expect_navigation():
        button.click()


def act(page: Page, number: str, move: str, fields: dict[str, str] | None = None) -> None:
    """Make a move from the referral's page by its button (and its form, when it has one)."""
    if f"/referrals/{number}" not in page.url:
        page.goto(f"/referrals/{number}")
    form = page.locator(f".act-form[action$='/act/{move}']")
    if form.count() == 0:
        simple = page.locator(f".acts form[action$='/act/{move}'] button")
        if simple.count():
            submit(page, simple)
            done(page)
            return
        page.locator(f".acts a[href*='act={move}']").click()
    expect(form).to_be_visible()
    fill(form, fields or {})
    submit(page, form.locator("button.btn").last)
    done(page)


def fill(form: Locator, fields: dict[str, str]) -> None:
    """Type, choose or tick by the names of the fields."""
    for name, value in fields.items():
        box = form.locator(f"[name={name}]:not([type=hidden])")
        kind = box.first.evaluate("e => e.tagName + (e.type || '')")
        if kind.endswith("checkbox"):
            box.check()
        elif kind.endswith("radio"):
            form.locator(f"[name={name}][value='{value}']").check(force=True)
        elif kind.startswith("SELECT"):
            box.select_option(value)
        else:
            box.fill(value)


def done(page: Page) -> None:
    """The page says that it is done, and nothing is wrong."""
    expect(page.locator(".form-errors")).to_have_count(0)
    expect(page.locator(".notice-success").first).to_be_visible()


def stands(page: Page, number: str, state: str, owner: str = "") -> None:
    """The strip, the owner and the time left are on the page; a closed one owes nothing."""
    if f"/referrals/{number}" not in page.url:
        page.goto(f"/referrals/{number}")
    expect(page.locator("#h-stand")).to_contain_text(state)
    expect(page.locator(".journey .journey-step").first).to_be_visible()
    if owner:
        expect(page.locator(".journey .is-now")).to_have_count(1)
        expect(page.locator(".stand .owes").filter(has_text=owner).first).to_be_visible()
        expect(page.locator(".stand .owes .clock").first).to_be_visible()
        expect(page.locator(".stand .owes .when").first).not_to_be_empty()
    else:
        expect(page.locator(".stand .owes")).to_have_count(0)


def pack(values: dict[str, str]) -> dict[str, str]:
    """Pack fields as the page names them."""
    return {f"pack_{name}": text for name, text in values.items()}


def facts() -> dict[str, str]:
    """What the doctor ticks at discharge."""
    return {f"fact_{name}": "true" for name in g.FACTS_DOWN}


def at(instant: dt.datetime) -> str:
    """A local time as the browser's box takes it."""
    return instant.astimezone(clock.ZONE).strftime("%Y-%m-%dT%H:%M")


def seen_at_the_township(cast: Cast) -> tuple[str, str]:
    """She is not known; the GP registers her, writes the visit, takes the catalogue's answer and refers her up."""
    page = cast["gp"]
    cast.shot("gp", "gp-workbench-empty")
    page.goto("/people")
    page.fill("#q", g.ID_NO)
    expect(page.locator("#hits")).to_contain_text("没有找到")
    page.locator("#hits a.btn").click()
    expect(page.locator("#id_id_no")).to_have_value(g.ID_NO)
    expect(page.locator("#id_birth_date")).to_have_value(g.BORN.isoformat())
    for box, value in (("name", g.NAME), ("phone", g.PHONE), ("village", "上庄村")):
        page.fill(f"#id_{box}", value)
    cast.shot("gp", "gp-register")
    submit(page, page.locator("form.register button.btn-primary"))
    done(page)
    expect(page.locator(".person-banner")).to_contain_text("57 岁")
    who = re.search(r"/people/(\d{10})", page.url)[1]  # type: ignore[index]
    cast.shot("gp", "gp-person-new")

    page.locator(f"a[href$='/people/{who}/note']").first.click()
    page.locator("#dx").press_sequentially("甲状腺结节", delay=20)
    option = page.locator("#dx-list [data-code]").first
    expect(option).to_be_visible()
    option.dispatch_event("mousedown")
    expect(page.locator("[name=diagnosis_code]")).to_have_value(re.compile("^E04"))
    page.fill("#id_bp_systolic", "136")
    page.fill("#id_bp_diastolic", "84")
    for name, value in g.FACTS_UP.items():
        page.fill(f"[name=fact_{name}]", str(value))
        page.locator(f"[name=fact_{name}]").dispatch_event("change")
    expect(page.locator(".answer-refer_up")).to_contain_text("TI-RADS")
    page.fill("#id_complaint", g.UP_PACK["present"])
    cast.shot("gp", "gp-note-answer")
    submit(page, page.locator("#answer-box button[name=_refer]"))

    expect(page.locator(".answer-refer_up")).to_be_visible()
    form = page.locator("form[data-steps]")
    form.locator(f"[name=to_institution][value='{g.HEAD}']").check()
    fill(
        form,
        pack(g.UP_PACK)
        | {"reason_code": "catalogue", "reason": "怀疑需手术", "consent_evidence": "signed", "consent": "on"},
    )
    cast.shot("gp", "gp-new-referral")
    submit(page, form.locator("button[name=_send]"))
    done(page)
    up = re.search(r"/referrals/(ZZ[\d-]+)", page.url)[1]  # type: ignore[index]
    stands(page, up, "已提交", "转诊")
    cast.shot("gp", "gp-referral-sent")
    return who, up


def taken_up(cast: Cast, up: str) -> None:
    """The desk acknowledges, asks, is answered by the GP, accepts, and books one of its numbers."""
    desk = cast.duty("desk", "签收")
    cast["desk"].goto("/")
    cast.shot("desk", "desk-workbench")
    act(desk, up, "receive")
    stands(desk, up, "已签收", "转诊")
    act(desk, up, "ask_info", {"reason_code": "missing_result", "question": g.QUESTION})
    stands(desk, up, "等待补充资料", "长宁镇卫生院")
    cast.shot("desk", "desk-asked")
    gp = cast.duty("gp", "答复")
    cast.shot("gp", "gp-answering")
    act(gp, up, "answer_info", {"text": g.ANSWER})
    desk = cast.duty("desk", "接收")
    act(desk, up, "accept", {"comment": "请带既往超声片。"})
    stands(desk, up, "已接收", "转诊")
    desk.goto("/desk/receiving?show=book")
    expect(desk.locator(".desk-row")).to_contain_text(g.NAME)
    cast.shot("desk", "desk-receiving")
    desk = cast.duty("desk", "预约")
    numbers = desk.locator(".act-form input[name=session]")
    expect(numbers.first).to_be_visible()
    cast.shot("desk", "desk-booking")
    act(desk, up, "book", {"session": numbers.first.get_attribute("value") or ""})
    stands(desk, up, "已预约", "收费登记")


def operated(cast: Cast, who: str, up: str, head: Hospital) -> str:
    """Arrival by card, the surgeon takes over, the hospital's system sends its papers, discharge, the way down, the letter."""
    referral = Referral.objects.unscoped("test").get(case__number=up)
    assert referral.appointment_at is not None
    g.set_clock(referral.appointment_at - dt.timedelta(minutes=15))
    card = Person.objects.unscoped("test").get(number=who).card_number
    reception = cast["reception"]
    reception.goto("/desk/reception")
    expect(reception.locator(".desk-row")).to_contain_text(g.NAME)
    reception.fill("#scan", card)
    submit(reception, reception.locator("form[role=search] button.btn-primary"))
    cast.shot("reception", "reception-card")
    reception.locator(".desk-acts a", has_text="到诊登记").click()
    form = reception.locator(".act-form[action$='/act/arrive']")
    form.locator("[name=identity]").fill(card)
    submit(reception, form.locator("button.btn").last)
    done(reception)
    assert reception.request.get(f"/people/{who}").status == 403, "reception does not read records"

    surgeon = cast.duty("surgeon", "开始诊治")
    act(surgeon, up, "start_care", {"visit_kind": "inpatient", "visit_number": "ZY260304"})
    stands(surgeon, up, "诊治中", "市第一人民医院")
    head.ok("POST", "", g.transaction(g.hospital_papers("XN-SYY-260304", "XN-SYY-ZY260304", clock.now())))
    g.later(days=1)
    act(surgeon, up, "interim_note", {"text": g.INTERIM})
    surgeon.goto(f"/people/{who}")
    for words in ("促甲状腺激素", "左甲状腺素钠片", "甲状腺右叶及峡部切除术"):
        expect(surgeon.locator("#chart")).to_contain_text(words)
    cast.shot("surgeon", "surgeon-person")
    gp = cast["gp"]
    gp.goto(f"/people/{who}")
    expect(gp.locator("#chart")).to_contain_text("左甲状腺素钠片")
    cast.shot("gp", "gp-person-after-surgery")
    cast.refused("stranger", who, up)

    g.later(days=4)
    act(surgeon, up, "discharge", {"diagnosis_code": "D34", "diagnosis_name": "甲状腺良性肿瘤"} | facts())
    surgeon = cast.duty("surgeon", "发起下转")
    form = {"to_institution": g.TCM, "specialty": "21"} | pack(g.DOWN_PACK)
    cast.shot("surgeon", "surgeon-proposing-down")
    act(surgeon, up, "propose_down", form)
    down = Referral.objects.unscoped("test").get(direction="down").case.number
    cast.refused("tcm_doctor", who, up, down)
    act(surgeon, down, "submit", {"consent": "on", "consent_evidence": "signed"})
    stands(surgeon, down, "已提交", "县中医院")
    surgeon = cast.duty("surgeon", "发送回转单")
    act(
        surgeon,
        up,
        "send_outcome",
        g.LETTER | {"follow_when": (clock.today() + dt.timedelta(days=21)).isoformat()},
    )
    stands(surgeon, up, "已回转", "长宁镇卫生院")
    cast.shot("surgeon", "surgeon-letter-sent")
    gp = cast.duty("gp", "确认回转并闭环")
    cast.shot("gp", "gp-acknowledging")
    act(gp, up, "acknowledge", {"medication_reconciled": "on"})
    stands(gp, up, "已闭环")
    cast.shot("gp", "gp-closed")
    return down


def rehabilitated(cast: Cast, who: str, up: str, down: str) -> str:
    """The TCM hospital takes her, the surgeon comes for a round, she is discharged and sent home."""
    assert cast["tcm_doctor"].request.get(f"/referrals/{down}").status == 200, "the duty opens it"
    desk = cast.duty("tcm_desk", "签收")
    act(desk, down, "receive")
    stands(desk, down, "已签收", "县中医院")
    cast.shot("tcm_desk", "tcm-desk-down-referral")
    desk = cast.duty("tcm_desk", "接收")
    act(desk, down, "accept", {"to_department": "KFK"})
    desk = cast.duty("tcm_desk", "预约")
    act(
        desk,
        down,
        "book",
        {"appointment_at": at(clock.now() + dt.timedelta(days=1)), "appointment_note": "康复病区 12 床"},
    )
    g.later(days=1, minutes=3)
    reception = cast.duty("tcm_reception", "到诊登记")
    act(reception, down, "arrive", {"identity": g.ID_NO})
    doctor = cast.duty("tcm_doctor", "开始诊治")
    act(doctor, down, "start_care", {"visit_kind": "inpatient"})
    stands(doctor, down, "诊治中", "县中医院")
    g.later(days=5)
    surgeon = cast["surgeon"]
    surgeon.goto("/desk/down?show=below")
    expect(surgeon.locator(".desk-row")).to_contain_text(g.NAME)
    cast.shot("surgeon", "surgeon-down-desk")
    act(surgeon, down, "ward_round", g.ROUND)
    expect(surgeon.locator("#h-letters")).to_be_visible()
    cast.shot("surgeon", "surgeon-ward-round")
    g.later(days=7)
    act(doctor, down, "discharge", facts())
    act(doctor, down, "propose_down", {"to_institution": g.TOWNSHIP} | pack(g.HOME_PACK))
    home = Referral.objects.unscoped("test").get(parent__case__number=down).case.number
    act(doctor, home, "submit", {"consent": "on", "consent_evidence": "family"})
    doctor = cast.duty("tcm_doctor", "发送回转单")
    act(
        doctor,
        down,
        "send_outcome",
        g.REHABILITATED | {"follow_when": (clock.today() + dt.timedelta(days=7)).isoformat()},
    )
    cast.shot("tcm_doctor", "tcm-letter-sent")
    surgeon = cast.duty("surgeon", "确认回转并闭环")
    act(surgeon, down, "acknowledge", {"medication_reconciled": "on"})
    stands(surgeon, down, "已闭环")
    cast.refused("stranger", who, up, down, home)
    cast.refused("other_gp", who, up, down, home)
    return home


def home_again(cast: Cast, who: str, home: str) -> None:
    """The GP takes her back, the family doctor follows up twice and finishes; the TCM hospital has its answer."""
    gp = cast.duty("gp", "签收")
    act(gp, home, "receive")
    gp = cast.duty("gp", "接收")
    act(gp, home, "accept")
    gp = cast.duty("gp", "预约")
    act(gp, home, "book", {"appointment_at": at(clock.now() + dt.timedelta(days=1))})
    cast.shot("gp", "gp-home-booked")
    g.later(days=1, minutes=3)
    act(cast["gp"], home, "arrive", {"identity": g.ID_NO})
    gp = cast.duty("gp", "开始诊治")
    act(gp, home, "start_care", {"visit_kind": "clinic"})
    gp = cast.duty("gp", "发送回转单")
    act(
        gp,
        home,
        "send_outcome",
        g.REHABILITATED | {"follow_when": (clock.today() + dt.timedelta(days=7)).isoformat()},
    )
    doctor = cast.duty("tcm_doctor", "确认回转并闭环")
    act(doctor, home, "acknowledge", {"medication_reconciled": "on"})

    family = cast["family"]
    family.goto("/followups")
    expect(family.locator(".desk-row").first).to_contain_text(g.NAME)
    cast.shot("family", "family-followups")
    for n in range(family.locator(".desk-row").count()):
        number = list(
            Followup.objects.unscoped("test").order_by("pk").values_list("case__number", flat=True)
        )[n]
        family.goto(f"/followups/{number}")
        family.locator("label[for=mode-home]").click()
        family.fill("[name=bp_systolic]", "132")
        family.fill("[name=bp_diastolic]", "80")
        family.locator("label[for=drugs-yes]").click()
        cast.shot("family", f"family-contact-{n + 1}")
        submit(family, family.locator("#act-contact button.btn-primary"))
        family.goto(f"/followups/{number}?act=finish")
        form = family.locator(".act-form[action$='/act/finish']")
        fill(form, {"conclusion": "颈部活动自如，血压平稳，甲功预约复查。"})
        submit(family, form.locator("button.btn").last)
        done(family)
    family.goto(f"/people/{who}")
    expect(family.locator("#h-duties + *")).to_contain_text("没有未完成的责任")
    cast.shot("family", "family-person-at-the-end")


def test_the_story_closes_in_the_browser(cast: Cast) -> None:
    who, up = seen_at_the_township(cast)
    number = Person.objects.unscoped("test").get(name=g.NAME).number
    assert number == who
    cast.refused("stranger", who, up)
    cast.refused("tcm_doctor", who, up)
    taken_up(cast, up)
    down = operated(cast, who, up, Hospital(g.HEAD))
    home = rehabilitated(cast, who, up, down)
    home_again(cast, who, home)

    assert not Case.objects.unscoped("test").filter(terminal=False).exists()
    office = cast["office"]
    office.goto("/flow")
    expect(office.locator("[data-chart=sankey] canvas, [data-chart=sankey] svg").first).to_be_visible()
    if SHOTS:
        office.wait_for_timeout(1500)  # let the bands grow before their picture is taken
    cast.shot("office", "office-flow")
    expect(office.locator("body")).not_to_contain_text(g.NAME)
    surgeon = cast["surgeon"]
    surgeon.goto(f"/people/{who}?tab=looked")
    cast.shot("surgeon", "surgeon-who-looked")
    auditor = cast["auditor"]
    auditor.goto("/audit")
    cast.shot("auditor", "auditor-audit")

    g.later(days=45)
    cast.refused("tcm_doctor", who)
    tokens.forget()
    Hospital(g.BRANCH).sees_nothing(who, up)
    assert cast.faults == []
    assert {name: problems for name, problems in checks.run() if problems} == {}
    denied = AuditEvent.objects.filter(action="deny")
    assert denied.exclude(person_id=None).count() >= 5
