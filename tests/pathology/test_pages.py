"""The pages of the pathology centre and of the sender's end: every one answers, refusals are words, and strangers see nothing."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from lianxin.regional.pathology.models import Parcel, Picture, Slide, Specimen
from lianxin.regional.reading import service as reading_service
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.pathology import world
from tests.reading.world import account_of

pytestmark = pytest.mark.django_db


def browser(county: SmallCounty, key: str) -> Client:
    """Somebody signed in."""
    client = Client()
    client.force_login(account_of(county.posts[key]))
    return client


def test_the_sender_and_the_centre_work_on_their_pages() -> None:
    county = world.make_world()
    case = world.order(county)
    number = case.case.number
    sender, lab = browser(county, "technician0"), browser(county, "lab0")
    assert "待登记标本" in sender.get("/pathology/send").content.decode()
    now = clock.now().astimezone(clock.ZONE)
    form = {"site": "胃窦", "procedure": "活检", "pieces": "2", "fixative": "nbf", "taken_at": f"{now:%Y-%m-%dT00:01}", "fixed_at": f"{now:%Y-%m-%dT00:01}"}  # fmt: skip
    bad = sender.post(
        f"/pathology/{number}/specimens", form | {"taken_at": "2999-01-01T00:00", "fixed_at": ""}
    )
    assert bad.status_code == 422
    assert sender.post(f"/pathology/{number}/specimens", form).status_code == 302
    code = Specimen.objects.unscoped("test").get(reading=case).code
    twice = [sender.post("/pathology/dispatch", {"codes": [code], "carrier": "运送员甲", "_key": "k1"}) for _ in range(2)]  # fmt: skip
    parcel = Parcel.objects.get()
    assert {a.headers["Location"] for a in twice} == {f"/pathology/parcels/{parcel.number}"}
    assert "全部签收" not in sender.get(f"/pathology/parcels/{parcel.number}").content.decode()
    assert "全部签收" in lab.get(f"/pathology/parcels/{parcel.number}").content.decode()
    assert lab.post("/pathology/receive", {"code": parcel.number}, follow=True).status_code == 200
    page = f"/pathology/{number}"
    assert lab.post(f"{page}/do/gross", {"code": code, "text": "一块。", "kind": "paraffin", "tissues": ""}).status_code == 422  # fmt: skip
    assert lab.post(f"{page}/do/gross", {"code": code, "text": "一块。", "kind": "paraffin", "tissues": "甲\n乙"}).status_code == 302  # fmt: skip
    for slide in Slide.objects.unscoped("test").filter(reading=case):
        for _ in range(2):
            assert lab.post(f"{page}/do/step", {"code": slide.code}).status_code == 302
    assert lab.post(f"{page}/do/step", {"code": slide.code}).status_code == 409
    assert lab.post(f"{page}/do/step", {"code": "000000000000A01-01"}).status_code == 422
    picture = SimpleUploadedFile("a.png", world.png(), "image/png")
    assert (
        lab.post(f"{page}/do/picture", {"code": code, "kind": "gross", "picture": picture}).status_code == 302
    )
    shown = Picture.objects.unscoped("test").get(reading=case)
    assert lab.get(f"/pathology/pictures/{shown.pk}").headers["Content-Type"] == "image/jpeg"
    assert lab.post(f"{page}/do/choose", {"picture": shown.pk, "chosen": "1"}).status_code == 302
    assert lab.post(f"{page}/do/lend", {"code": f"{code}01", "borrower": "", "house": "", "purpose": ""}).status_code == 422  # fmt: skip
    for what in ("", "?what=slides"):
        assert lab.get(f"{page}/labels.pdf{what}").content.startswith(b"%PDF")
    assert lab.get(f"{page}/report.pdf").status_code == 404
    scope = world.report(county, case)
    assert sender.get(f"{page}/report.pdf").content.startswith(b"%PDF")
    reader = browser(county, "reader0")
    for url in ("/pathology", "/pathology?tab=issued", "/pathology/statistics", "/pathology/statistics?month=x", page, f"/reading/{number}"):  # fmt: skip
        assert reader.get(url).status_code == 200, url
    assert reader.get(f"/pathology/scan?code={code}01").headers["Location"] == page
    assert reading_service.claim(scope, "pathology", number) is None


def test_a_stranger_finds_nothing() -> None:
    county = world.make_world()
    case, specimen = world.received(county)
    lab = world.scope_of(county, "lab0")
    slide = world.ready(county, case, specimen)
    from lianxin.regional.pathology import pictures

    row = pictures.add(lab, case, slide.code, "micro", world.png())
    parcel = Parcel.objects.get()
    for key in ("technician1", "gp1", "tcm_clinician"):
        other = browser(county, key)
        for url in (f"/pathology/{case.case.number}", f"/pathology/pictures/{row.pk}", f"/pathology/parcels/{parcel.number}",
                    f"/pathology/{case.case.number}/labels.pdf", f"/pathology/{case.case.number}/report.pdf"):  # fmt: skip
            assert other.get(url).status_code in (403, 404), (key, url)
        assert other.post(f"/pathology/{case.case.number}/do/fail", {"code": slide.code, "note": "x"}).status_code in (403, 404)  # fmt: skip
        found = other.get(f"/pathology/scan?code={slide.code}")
        assert found.status_code in (302, 403)
        assert case.case.number not in found.headers.get("Location", "")
