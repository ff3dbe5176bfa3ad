"""Pages of re-links, weights and registration quality: who may, what is shown and masked, deciding; and the figures behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope
from lianxin.duty import periodic
from lianxin.index import links, registry, reviews, sources
from lianxin.index.batch import apply, metrics, propose, versions
from lianxin.index.batch.models import Day, Proposal
from lianxin.index.match.model import DEFAULT
from lianxin.index.models import GenericValue, Person, SourceRecord
from lianxin.index.registry import Registration
from lianxin.network import roles
from lianxin.standards import clock
from tests.factories import make_post, make_practitioner, make_resident_id
from tests.portal.conftest import Town, _hash
from tests.portal.test_browser import clean, sign_in

As = Callable[..., Client]
SYSTEM = Scope.system("test")
BORN = dt.date(1961, 3, 8)


@pytest.fixture
def boss(town: Town) -> Client:
    """The consortium's index manager."""
    post = make_post(town.county.lead, roles.INDEX_MANAGER, make_practitioner("冼若水"))
    account = Account.objects.create(
        username="index", name="冼若水", practitioner=post.practitioner, password=_hash()
    )
    client = Client()
    client.force_login(account)
    return client


@pytest.fixture
def proposal(town: Town, tmp_path: Path) -> Iterator[Proposal]:
    """One person in two, which the weights that ship would join."""
    number = make_resident_id(BORN, 216)
    first, second = (
        registry.register(
            SYSTEM,
            Registration(place.pk, "urn:test:his", f"L{n}", "翟玉兰", sex="female", birth_date=BORN, id_no=number, phone="13957600123"),
        )
        for n, place in enumerate((town.county.lead, town.county.townships[0]))
    )  # fmt: skip
    assert first.person_id == second.person_id
    source = SourceRecord.objects.unscoped("test").get(pk=second.source_id)
    links.move(SYSTEM, source, None, "test", apart=False)
    home, settings.HOME = settings.HOME, tmp_path
    yield propose.propose(SYSTEM, DEFAULT, processes=1)
    settings.HOME = home


def test_only_the_index_manager_decides_about_everybody(as_: As, boss: Client, proposal: Proposal) -> None:
    listing, one = reverse("portal:index_batch"), reverse("portal:index_proposal", args=[proposal.pk])
    for who in ("desk", "manager", "system_admin"):
        assert as_(who).get(listing).status_code == 403
        assert as_(who).get(one).status_code == 403
        assert (
            as_(who)
            .post(reverse("portal:index_proposal_decide", args=[proposal.pk]), {"act": "accept"})
            .status_code
            == 403
        )
    assert listing in boss.get("/").content.decode()
    assert one in boss.get(listing).content.decode()
    assert boss.get(reverse("portal:index_proposal", args=[9999])).status_code == 404


def test_a_preview_is_masked_and_tells_why(boss: Client, proposal: Proposal) -> None:
    one = reverse("portal:index_proposal", args=[proposal.pk])
    page = boss.get(one).content.decode()
    assert "翟*兰" in page
    assert "翟玉兰" not in page
    assert make_resident_id(BORN, 216) not in page
    assert "13957600123" not in page
    assert "waterfall-bits" in page
    assert AuditEvent.objects.filter(action="read", what=f"index proposal {proposal.pk}").exists()
    for query in ("?kind=join", "?kind=split", "?kind=nothing", "?show=records", "?page=x"):
        assert boss.get(one + query).status_code == 200
    boss.cookies["lang"] = "en"
    assert boss.get(one, HTTP_ACCEPT_LANGUAGE="en").status_code == 200


def test_accepting_and_taking_back(boss: Client, proposal: Proposal) -> None:
    decide = reverse("portal:index_proposal_decide", args=[proposal.pk])
    two = Person.objects.unscoped("test").filter(status="active").count()
    assert boss.post(decide, {"act": "x"}).status_code == 404
    assert (
        "正在分批执行" in boss.post(decide, {"act": "accept", "note": "看过"}, follow=True).content.decode()
    )
    assert "已变化" in boss.post(decide, {"act": "refuse"}, follow=True).content.decode()
    apply.work()
    assert Person.objects.unscoped("test").filter(status="active").count() == two - 1
    page = boss.get(reverse("portal:index_proposal", args=[proposal.pk])).content.decode()
    assert "整体撤销" in page
    boss.post(decide, {"act": "undo"})
    apply.work()
    assert Person.objects.unscoped("test").filter(status="active").count() == two
    assert "index.relink" in periodic._jobs


def test_a_model_is_put_to_use(boss: Client, proposal: Proposal) -> None:
    import dataclasses

    versions.keep(SYSTEM, dataclasses.replace(DEFAULT, version="county-1", training={"rounds": 3}))
    listing = reverse("portal:index_batch")
    assert "county-1" in boss.get(listing).content.decode()
    page = boss.post(reverse("portal:index_model_activate", args=["county-1"]), follow=True).content.decode()
    assert "已启用" in page
    page = boss.post(reverse("portal:index_model_activate", args=["nobody"]), follow=True).content.decode()
    assert "没有模型" in page
    boss.post(reverse("portal:index_model_activate", args=["shipped"]))


def test_a_days_figures_per_institution(as_: As, boss: Client, town: Town) -> None:
    lead, other = town.county.lead, town.county.townships[0]
    made = [
        registry.register(SYSTEM, Registration(place.pk, "urn:test:his", f"Q{n}", name, sex="male", birth_date=born, id_no=number, phone=phone))
        for n, (place, name, born, number, phone) in enumerate(
            [
                (lead, "程咬金", BORN, make_resident_id(BORN, 217), "13957600124"),
                (other, "程咬金", BORN, make_resident_id(BORN, 217), "13957600124"),
                (lead, "无名氏", None, "", ""),
                (lead, "尉迟恭", dt.date(1970, 5, 5), "123", ""),
            ]
        )
    ]  # fmt: skip
    from django.db import connection

    with connection.cursor() as cur:
        rows: list[reviews.Row] = [
            ("look_alike", made[3].person_id, made[0].person_id, None, 1.0, 0.6, [], "x")
        ]
        reviews.open_many(cur, rows)
    assert metrics.refresh() >= 2
    day = Day.objects.get(institution=lead, day=clock.today())
    assert (day.registrations, day.created, day.linked, day.sampled) == (3, 3, 0, 3)
    assert (day.no_birth, day.nameless, day.suspected, day.reviews) == (1, 1, 1, 1)
    assert (day.people, day.alone) == (3, 2)
    assert Day.objects.get(institution=other, day=clock.today()).linked == 1
    again = metrics.refresh(clock.today())
    assert again >= 2
    assert Day.objects.filter(institution=lead).count() <= 2
    page = boss.get(reverse("portal:index_quality")).content.decode()
    assert str(lead.short_name or lead.name)[:2] in page
    one = boss.get(reverse("portal:index_quality") + f"?institution={lead.pk}").content.decode()
    assert 'data-chart="trend"' in one
    for query in ("?day=x", "?day=1999-01-01", "?institution=zz", "?institution=99999999"):
        assert boss.get(reverse("portal:index_quality") + query).status_code == 200
    assert as_("desk").get(reverse("portal:index_quality")).status_code == 200
    assert as_("manager").get(reverse("portal:index_quality")).status_code == 403


def test_a_conspicuous_source_is_shown_and_a_value_is_lifted(as_: As, boss: Client, town: Town) -> None:
    other = town.county.townships[0]
    shared = "13755550123"
    registry.register_many(SYSTEM, [
        Registration(other.pk, "urn:test:his", f"C{n}", f"{family}{given}", sex="male", birth_date=dt.date(1950 + n, 3, 3), phone=shared)
        for n, (family, given) in enumerate((f, g) for f in "赵钱孙李" for g in ("大江", "小河", "文海", "远山"))
    ])  # fmt: skip
    sources.run()
    url = reverse("portal:index_quality")
    page = boss.get(url).content.decode()
    assert "同一电话多人用" in page
    assert "该电话列为通用值" in page
    assert "137****0123" in page
    assert shared not in page
    assert "同一电话多人用" not in as_("desk").get(url).content.decode()  # another institution's desk
    value = GenericValue.objects.get()
    lift = reverse("portal:index_generic", args=[value.pk])
    assert as_("desk").post(lift, {"act": "lift"}).status_code == 403
    assert "重新用来认人" in boss.post(lift, {"act": "lift"}, follow=True).content.decode()
    assert "没有变化" in boss.post(lift, {"act": "lift"}, follow=True).content.decode()
    assert not GenericValue.objects.get().active
    event = AuditEvent.objects.get(what=f"index generic {value.pk}")
    assert "lifted" in event.detail
    flagged = sources.flags()[0].count
    registry.register(SYSTEM, Registration(other.pk, "urn:test:his", "C99", "周长风", phone=shared))
    sources.run()
    assert sources.flags()[0].count == flagged  # what was lifted flags nobody any more
    boss.post(lift, {"act": "generic"})
    assert GenericValue.objects.get().active


@pytest.mark.browser
def test_a_proposal_on_a_desktop_and_a_phone(
    page: Page, live: str, boss: Client, proposal: Proposal, tmp_path: Path
) -> None:
    sign_in(page, live, "index")
    for path, name in (
        ("/index/batch", "batch"),
        (f"/index/batch/{proposal.pk}", "proposal"),
        ("/index/quality", "quality"),
    ):
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(live + path)
            if name == "proposal":
                page.locator("summary").first.click()
                expect(page.locator(".waterfall-bits").first).to_be_visible()
            clean(page)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            page.screenshot(path=str(tmp_path / f"{name}-{width}.png"), full_page=True)
    page.goto(f"{live}/index/batch/{proposal.pk}")
    page.fill("#note", "看过")
    page.click("button[value=accept]")
    expect(page.locator(".status").first).to_have_text("执行中")
