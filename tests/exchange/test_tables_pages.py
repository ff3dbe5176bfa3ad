"""The desk for tables: upload, mapping, dry run, storing, what was refused back as Excel and CSV; who may do what."""

from __future__ import annotations

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from openpyxl import Workbook, load_workbook

from lianxin.access.models import AuditEvent
from lianxin.exchange.feeds.models import DROPPED, Arrival
from lianxin.exchange.tables import database, door, mappings, running
from lianxin.exchange.tables.models import DONE, TableRun, TableSource
from lianxin.exchange.tables.targets import targets
from lianxin.network import roles
from tests.exchange import smart_world as w
from tests.factories import make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db

HEAD = ["报告单号", "病案号", "姓名", "项目代码", "结果", "报告时间", "状态"]
CSV = (
    "报告单号,病案号,姓名,项目代码,结果,报告时间,状态\n"
    "R1,P1,试用甲,WBC,6.2,2026-01-05 10:00,已审核\n"
    "R2,P2,试用乙,WBC,=1+1,不是日期,已审核\n"
)


def signed(role, institution):
    return w.signed_in(worlds.account_for(make_post(institution, role)))


@pytest.fixture
def hospital(settings, tmp_path):
    settings.HOME = tmp_path
    door.register()
    return make_institution("TP-A", "hospital")


def upload(text=CSV, name="检验.csv"):
    return SimpleUploadedFile(name, text if isinstance(text, bytes) else text.encode("gb18030"))


def mapped(browser, source):
    """The fields of the mapping page as they stand."""
    rules = mappings.newest(source).rules
    return {f"column-{k}": v for k, v in rules["columns"].items()}


def test_from_the_upload_to_the_record(hospital):
    desk = signed(roles.INDEX_MANAGER, hospital)
    assert "还没有来源" in desk.get("/feeds/tables").content.decode()
    assert desk.get("/feeds/tables/new").status_code == 200
    bad = desk.post("/feeds/tables/new", {"name": "", "file": upload(b"\xd0\xcf\x11\xe0" + bytes(50))})
    assert bad.status_code == 422
    bad = desk.post("/feeds/tables/new", {"name": "检验", "file": upload(b"\xd0\xcf\x11\xe0" + bytes(50))})
    assert bad.status_code == 422
    assert ".xls" in bad.content.decode()
    done = desk.post("/feeds/tables/new", {"name": "检验", "file": upload()})
    source = TableSource.objects.get()
    assert done["Location"] == f"/feeds/tables/{source.pk}/mapping"
    assert source.target == "lab"
    page = desk.get(f"/feeds/tables/{source.pk}/mapping").content.decode()
    assert "试用甲" in page
    assert "将被拒" in page
    wrong = desk.post(f"/feeds/tables/{source.pk}/mapping", {"column-result": "结果", "do": "use"})
    assert wrong.status_code == 422
    assert "报告单号" in wrong.content.decode()
    kept = desk.post(f"/feeds/tables/{source.pk}/mapping", {**mapped(desk, source), "do": "keep"})
    assert kept.status_code == 302
    assert mappings.in_use(source) is None
    used = desk.post(f"/feeds/tables/{source.pk}/mapping", {**mapped(desk, source), "do": "use"})
    dry = TableRun.objects.filter(dry=True, state=DONE).get()
    assert used["Location"] == f"/feeds/tables/runs/{dry.pk}"
    shown = desk.get(used["Location"]).content.decode()
    assert "入库 1 行" in shown
    assert "不是日期" in shown
    stored = desk.post(f"/feeds/tables/runs/{dry.pk}/store")
    run = TableRun.objects.get(dry=False)
    assert stored["Location"] == f"/feeds/tables/runs/{run.pk}"
    figures = running.figures_of(run)
    assert (figures.new, figures.refused) == (1, 1)
    assert "检验.csv" in desk.get(f"/feeds/tables/{source.pk}").content.decode()
    assert desk.get("/feeds/tables").status_code == 200
    back = desk.get(f"/feeds/tables/runs/{run.pk}/refused.csv")
    text = b"".join(back.streaming_content).decode("utf-8-sig")
    assert "'=1+1" in text
    assert "R2" in text
    assert AuditEvent.objects.filter(action="export", what=f"table run {run.pk} refused").count() == 1
    arrival = Arrival.objects.get(state="refused")
    form = desk.get(f"/feeds/tables/rows/{arrival.pk}").content.decode()
    assert "试用乙" in form
    cells = ["R2", "P2", "试用乙", "WBC", "2", "还不是", "已审核"]
    assert (
        desk.post(
            f"/feeds/tables/rows/{arrival.pk}", {f"cell-{n}": c for n, c in enumerate(cells)}
        ).status_code
        == 422
    )
    newest = Arrival.objects.get(state="refused")
    cells[5] = "2026-01-05"
    done = desk.post(f"/feeds/tables/rows/{newest.pk}", {f"cell-{n}": c for n, c in enumerate(cells)})
    assert done.status_code == 302
    assert not Arrival.objects.filter(state="refused").exists()
    assert Arrival.objects.filter(state=DROPPED).count() == 2


def test_a_workbook_comes_back_with_reasons(hospital):
    desk = signed(roles.GP, hospital)
    book = Workbook()
    for line in (
        HEAD,
        ["R1", "P1", "试用甲", "WBC", 1, "2026-01-05", ""],
        ["R2", "P2", "试用乙", "WBC", "=1+1", "昨天", ""],
    ):
        book.active.append(line)
    out = io.BytesIO()
    book.save(out)
    desk.post("/feeds/tables/new", {"name": "表", "target": "lab", "file": upload(out.getvalue(), "a.xlsx")})
    source = TableSource.objects.get()
    desk.post(f"/feeds/tables/{source.pk}/mapping", {**mapped(desk, source), "do": "use"})
    run = TableRun.objects.filter(state=DONE).get()
    answer = desk.get(f"/feeds/tables/runs/{run.pk}/returned.xlsx")
    sheet = load_workbook(io.BytesIO(answer.content)).active
    assert sheet.cell(row=1, column=8).value.startswith("未受理原因")
    assert sheet.cell(row=2, column=8).value is None
    assert "公式" in sheet.cell(row=3, column=8).value
    assert sheet.cell(row=3, column=5).data_type == "s"
    assert sheet.cell(row=3, column=5).fill.fgColor.rgb.endswith("FFC7CE")
    sheet.cell(row=3, column=5).value = "2"
    sheet.cell(row=3, column=6).value = "2026-01-04"
    out = io.BytesIO()
    sheet.parent.save(out)
    desk.post(f"/feeds/tables/{source.pk}", {"file": upload(out.getvalue(), "b.xlsx")})
    again = TableRun.objects.order_by("-pk").first()
    assert running.figures_of(again).refused == 0


def test_templates_are_given(hospital):
    desk = signed(roles.RECEPTION, hospital)
    for code in ("lab", "hypertension"):
        answer = desk.get(f"/feeds/tables/templates/{code}.xlsx")
        assert load_workbook(io.BytesIO(answer.content)).sheetnames[0] == "填报"
    assert desk.get("/feeds/tables/templates/bogus.xlsx").status_code == 404
    assert all(str(t.name) in desk.get("/feeds/tables").content.decode() for t in targets().values())


def test_only_ones_own_institution_and_only_who_may(hospital):
    desk = signed(roles.INDEX_MANAGER, hospital)
    desk.post("/feeds/tables/new", {"name": "检验", "file": upload()})
    source = TableSource.objects.get()
    desk.post(f"/feeds/tables/{source.pk}/mapping", {**mapped(desk, source), "do": "use"})
    run = TableRun.objects.filter(state=DONE).get()
    other = signed(roles.INDEX_MANAGER, make_institution("TP-B", "hospital"))
    pages = [f"/feeds/tables/{source.pk}", f"/feeds/tables/{source.pk}/mapping", f"/feeds/tables/runs/{run.pk}",
             f"/feeds/tables/runs/{run.pk}/refused.csv", f"/feeds/tables/runs/{run.pk}/returned.xlsx"]  # fmt: skip
    for page in pages:
        assert other.get(page).status_code == 404, page
    assert other.post(f"/feeds/tables/runs/{run.pk}/store").status_code == 404
    assert f'href="/feeds/tables/{source.pk}"' not in other.get("/feeds/tables").content.decode()
    nobody = signed(roles.CLINICIAN, hospital)
    assert nobody.get("/feeds/tables").status_code == 403
    manager = signed(roles.MANAGER, hospital)  # sees figures, changes nothing, reads no row
    assert manager.get(f"/feeds/tables/runs/{run.pk}").status_code == 200
    assert manager.get(f"/feeds/tables/runs/{run.pk}/refused.csv").status_code == 403
    assert manager.post(f"/feeds/tables/runs/{run.pk}/store").status_code == 403
    assert manager.get("/feeds/tables/new").status_code == 403
    admin = signed(roles.SYSTEM_ADMIN, hospital)  # keeps the mapping, reads no row
    page = admin.get(f"/feeds/tables/{source.pk}/mapping")
    assert page.status_code == 200
    assert "试用" not in page.content.decode()
    assert admin.get(f"/feeds/tables/runs/{run.pk}/refused.csv").status_code == 403
    assert TableRun.objects.filter(dry=False).count() == 0


def test_a_view_is_entered_and_its_password_never_shown(hospital, monkeypatch):
    desk = signed(roles.INDEX_MANAGER, hospital)
    given = {
        "name": "视图",
        "target": "lab",
        "url": "postgresql://u:geheim@127.0.0.1/x",
        "view": "v",
        "overlap": 60,
        "every": 300,
    }
    answer = desk.post("/feeds/tables/view", given)
    assert answer.status_code == 422
    assert "本机" in answer.content.decode()
    assert "geheim" not in answer.content.decode()
    seen = [
        database.Seen(n, "TEXT", "time" if n == "gxsj" else "")
        for n in ("bgdh", "brid", "xmdm", "jyjg", "bgsj", "gxsj")
    ]

    class Fake:
        def __enter__(self):
            return None

        def __exit__(self, *error):
            return False

    monkeypatch.setattr(database, "connected", lambda source: Fake())
    monkeypatch.setattr(database, "look", lambda connection, view: seen)
    monkeypatch.setattr(database, "rows", lambda connection, source, names: iter(()))
    given["url"] = "postgresql://u:geheim@10.1.2.3/x"
    assert desk.post("/feeds/tables/view", {**given, "mark_column": "jyjg"}).status_code == 422
    assert desk.post("/feeds/tables/view", {**given, "mark_column": "GXSJ"}).status_code == 302
    source = TableSource.objects.get()
    assert (source.mark_column, source.mark_kind) == ("gxsj", "time")
    page = desk.get(f"/feeds/tables/{source.pk}").content.decode()
    assert "geheim" not in page
    assert "10.1.2.3" in page
    assert (
        desk.post(f"/feeds/tables/{source.pk}/mapping", {**mapped(desk, source), "do": "use"}).status_code
        == 302
    )
    assert desk.post(f"/feeds/tables/{source.pk}/pause").status_code == 302
    assert not TableSource.objects.get().active
    assert desk.post(f"/feeds/tables/{source.pk}/now").status_code == 302
    assert TableRun.objects.get().state == "waiting"
    run = TableRun.objects.get()
    assert desk.post(f"/feeds/tables/runs/{run.pk}/stop").status_code == 302
    assert TableRun.objects.get().state == "stopped"
    assert desk.post(f"/feeds/tables/runs/{run.pk}/resume").status_code == 302
    assert desk.post(f"/feeds/tables/runs/{run.pk}/bogus").status_code == 302
