"""Administration: what the forms refuse and how they say it, accounts, spreadsheets, audit, break-glass review."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import openpyxl
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from lianxin.access import break_glass
from lianxin.access.models import Account, AuditEvent, BreakGlass
from lianxin.index.models import Person
from lianxin.network.models import Department, Institution, Post, Practitioner
from tests.portal.conftest import PASSWORD, Town

INSTITUTION = {
    "name": "青溪县妇幼保健院", "code": "SC-FY", "kind": "maternal", "tier": "county", "ownership": "public", "active": "on",
}  # fmt: skip


def test_an_institution_is_made_and_changed(as_: Callable[..., Client]) -> None:
    client = as_("system_admin")
    assert (
        client.post("/manage/institutions/new", INSTITUTION).headers["Location"]
        == "/manage/institutions/SC-FY"
    )
    client.post("/manage/institutions/SC-FY", INSTITUTION | {"name": "青溪县妇保院", "code": "OTHER"})
    made = Institution.objects.get(code="SC-FY")
    assert made.name == "青溪县妇保院"
    assert AuditEvent.objects.filter(action="admin", what="institution SC-FY").count() == 2


def test_what_is_wrong_with_an_institution_is_said_beside_the_field(as_: Callable[..., Client]) -> None:
    client = as_("system_admin")
    bad = INSTITUTION | {
        "name": "", "code": "坏 代码", "kind": "village", "tier": "village", "uscc": "123", "lon": "121", "division": "33",
    }  # fmt: skip
    page = client.post("/manage/institutions/new", bad).content.decode()
    for words in ("没有提交成功", "此项必填", "代码只能有字母", "区划代码是六位数字"):
        assert words in page, words
    assert 'value="123"' in page  # what was typed is kept
    good_code = bad | {"name": "某村卫生室", "code": "SC-NV", "division": "", "uscc": ""}
    page = client.post("/manage/institutions/new", good_code).content.decode()
    assert "村卫生室必须有上级" in page
    assert "经度与纬度须同时填写" in page
    taken = client.post("/manage/institutions/new", INSTITUTION | {"code": "SC-T1"}).content.decode()
    assert "已经有这个值" in taken
    client.cookies["lianxin_lang"] = "en"
    assert "This is required" in client.post("/manage/institutions/new", bad).content.decode()
    assert not Institution.objects.filter(code="SC-NV").exists()


def test_a_post_is_given_and_ended(as_: Callable[..., Client], town: Town) -> None:
    client = as_("system_admin")
    client.post("/manage/people/new", {"name": "司徒新", "code": "P-NEW", "sex": "male", "active": "on"})
    person = Practitioner.objects.get(code="P-NEW")
    township = town.county.townships[0]
    wanted = {"institution": township.pk, "department": "NOPE", "role": "gp", "since": "2026-01-01"}
    page = client.post("/manage/people/P-NEW/posts", wanted).content.decode()
    assert "该机构没有这个科室" in page
    client.post("/manage/people/P-NEW/posts", wanted | {"department": "QK"})
    post = Post.objects.get(practitioner=person)
    page = client.post(
        "/manage/people/P-NEW/posts", wanted | {"department": "", "role": "audit_admin"}
    ).content.decode()
    assert "管理员不得兼任" in page
    client.post(f"/manage/posts/{post.pk}/end")
    post.refresh_from_db()
    assert post.until is not None


def test_an_account_is_made_with_a_password_shown_once(as_: Callable[..., Client], town: Town) -> None:
    person = Practitioner.objects.create(name="司徒新", code="P-NEW")
    client = as_("security_admin")
    assert (
        "没有这个工号" in client.post("/manage/accounts/new", {"code": "X", "username": "n"}).content.decode()
    )
    taken = client.post("/manage/accounts/new", {"code": "P-NEW", "username": "GP0"})
    assert "已被使用" in taken.content.decode()
    where = client.post("/manage/accounts/new", {"code": "P-NEW", "username": "situ"}).headers["Location"]
    made = Account.objects.get(username="situ")
    assert (made.practitioner, made.must_change_password) == (person, True)
    page = client.get(where).content.decode()
    first = page.split('x-ref="text">')[1].split("<")[0]
    assert made.check_password(first)
    assert first not in client.get(where).content.decode()


def test_locking_unlocking_resetting(as_: Callable[..., Client], town: Town) -> None:
    client, gp = as_("security_admin"), town.accounts["gp0"]
    for _ in range(5):
        Client().post("/login", {"username": "gp0", "password": "wrong"})
    assert "锁定至" in client.get(f"/manage/accounts/{gp.pk}").content.decode()
    assert "gp0" in client.get("/manage/accounts?state=locked").content.decode()
    client.post(f"/manage/accounts/{gp.pk}/unlock")
    gp.refresh_from_db()
    assert gp.locked_until is None
    client.post(f"/manage/accounts/{gp.pk}/disable")
    assert Client().post("/login", {"username": "gp0", "password": PASSWORD}).status_code == 422
    client.post(f"/manage/accounts/{gp.pk}/enable")
    client.post(f"/manage/accounts/{gp.pk}/reset")
    gp.refresh_from_db()
    assert gp.must_change_password
    assert not gp.check_password(PASSWORD)
    own = client.post(f"/manage/accounts/{town.accounts['security_admin'].pk}/disable", follow=True)
    assert "不能停用自己" in own.content.decode()
    assert client.post(f"/manage/accounts/{gp.pk}/explode").status_code == 404
    assert as_("system_admin").post(f"/manage/accounts/{gp.pk}/reset").status_code == 403


def _workbook(*rows: tuple[str, str, str]) -> bytes:
    """A workbook of departments: institution, code, name."""
    book = openpyxl.Workbook()
    for row in (("institution", "code", "name"), *rows):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _upload(client: Client, content: bytes, **more: str) -> str:
    file = SimpleUploadedFile("departments.xlsx", content)
    return client.post("/manage/sheets", {"kind": "departments", "file": file, **more}).content.decode()


def test_a_spreadsheet_is_checked_then_written(as_: Callable[..., Client], town: Town) -> None:
    client = as_("system_admin")
    content = _workbook(("SC-T3", "QK", "全科医学科"), ("SC-T3", "ZY", "中医科"))
    page = _upload(client, content)
    assert "没有错误，还没有写入" in page
    assert not town.county.townships[2].departments.filter(name="全科医学科").exists()
    kept = base64.b64encode(content).decode()
    done = client.post("/manage/sheets", {"kind": "departments", "kept": kept, "step": "write"}, follow=True)
    assert "已写入" in done.content.decode()
    assert set(town.county.townships[2].departments.values_list("code", "name")) == {
        ("QK", "全科医学科"),
        ("ZY", "中医科"),
    }


def test_a_spreadsheet_with_errors_names_row_and_cure(as_: Callable[..., Client]) -> None:
    client = as_("system_admin")
    page = _upload(client, _workbook(("SC-T3", "ZY", "中医科"), ("NOPE", "ZY", "中医科")), step="write")
    assert "一行也没有写入" in page
    assert "机构代码" in page
    assert '<td data-label="行">3</td>' in page
    assert not Department.objects.filter(code="ZY").exists()
    assert "请选择表格文件" in client.post("/manage/sheets", {"kind": "departments"}).content.decode()
    wrong = SimpleUploadedFile("a.txt", b"x")
    assert "请上传 .xlsx" in client.post("/manage/sheets", {"kind": "people", "file": wrong}).content.decode()
    assert _upload(client, b"not a workbook")


def test_the_audit_is_filtered_exported_and_verified(as_: Callable[..., Client], town: Town) -> None:
    as_("gp0").get("/manage/accounts")
    client = as_("audit_admin")
    page = client.get("/audit?action=deny&account=gp0").content.decode()
    assert "/manage/accounts" in page
    assert "没有符合条件" in client.get("/audit?action=print").content.decode()
    assert "日期请写成" in client.get("/audit?since=yesterday").content.decode()
    text = b"".join(client.get("/audit.csv?action=deny").streaming_content).decode("utf-8-sig")
    assert text.splitlines()[0].startswith("id,at,action")
    assert "gp0" in text
    assert AuditEvent.objects.filter(action="export", what="audit log").exists()
    assert "完整" in client.post("/audit").content.decode()


def test_an_emergency_opening_is_reviewed_by_another(as_: Callable[..., Client], town: Town) -> None:
    person = Person.objects.unscoped("test").create(
        number="3000000007", card_number="C1", name="甄试", sex="female"
    )
    opened = break_glass.open(town.scope("clinician"), person.pk, "昏迷患者急诊抢救，需了解既往用药", 4)
    client = as_("manager")
    page = client.get("/break-glass").content.decode()
    assert "昏迷患者" in page
    assert "3000000007" in page
    assert "甄试<" not in page
    refused = client.post(f"/break-glass/{opened.pk}", {"verdict": "unjustified"})
    assert refused.status_code == 422
    assert "请写明依据" in refused.content.decode()
    client.post(f"/break-glass/{opened.pk}", {"verdict": "justified", "note": ""})
    assert BreakGlass.objects.get(pk=opened.pk).verdict == "justified"
    assert as_("clinician").get(f"/break-glass/{opened.pk}").status_code == 403
    assert client.get("/break-glass/999999").status_code == 404
