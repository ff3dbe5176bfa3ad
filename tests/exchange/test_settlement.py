"""Settlement detail: columns of several counties, amounts to the fen, control sheets, versions, reversals, places, people, pages, door."""

import csv
import datetime as dt
import io
import random

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.test import Client as Browser
from openpyxl import Workbook

from lianxin.access import tokens
from lianxin.access.errors import NotPermitted
from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope, scope_for_account
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.settlement import batches, checking, control, layout, linking, loading
from lianxin.exchange.settlement.figures import figures
from lianxin.exchange.settlement.models import SettlementBatch, SettlementLine, SettlementProvider
from lianxin.index import registry
from lianxin.index.form import Registration
from lianxin.network.models import Membership
from lianxin.standards import clock
from lianxin.standards.money import Money, MoneyError
from tests.factories import SINCE, make_institution, make_resident_id, small_county

SYSTEM = Scope.system("test")
HEAD = ["结算ID", "证件号码", "姓名", "险种类型", "医疗类别", "定点医药机构编号", "定点医药机构名称", "入院日期", "出院日期", "结算时间", "医疗费总额", "符合政策范围金额", "基金支付总额", "统筹基金支付", "大病保险支付", "医疗救助支付", "其他支付", "个人负担总金额", "个人账户支付", "个人现金支付", "退费结算标志", "原结算ID"]  # fmt: skip
FIRST, LAST = dt.date(2026, 1, 1), dt.date(2026, 12, 31)
NUMBER = make_resident_id(dt.date(1969, 5, 17), 12)


def yuan(fen):
    return Money(fen).yuan()


def row(key, provider="SC-RMYY", total=10000, fund=6000, *, id_no=NUMBER, name="单立秋", scheme="310", care="21", day="2026-03-05", where="", back="", of=""):  # fmt: skip
    rest = total - fund
    return [key, id_no, name, scheme, care, provider, where, "2026-03-01", "2026-03-05", f"{day} 10:11:12", yuan(total), yuan(total), yuan(fund),
            yuan(fund), "0", "0.00", "", yuan(rest), yuan(0), yuan(rest), back, of]  # fmt: skip


def text(rows, head=HEAD):
    out = io.StringIO()
    csv.writer(out).writerows([head, *rows])
    return out.getvalue()


def sheet_of(rows):
    """The control sheet of rows: by provider, scheme and month."""
    sums = {}
    for r in rows:
        key = (r[5], r[3], r[9][:7])
        n, total, fund = sums.get(key, (0, 0, 0))
        sums[key] = (n + 1, total + Money.of_yuan(r[10]).fen, fund + Money.of_yuan(r[12]).fen)
    lines = [[*key, n, yuan(t), yuan(f)] for key, (n, t, f) in sums.items()]
    return text(lines, ["医疗机构编码", "险种", "结算月份", "人次", "总费用", "基金支付"])


def take(tmp_path, county, rows, sheet="", name="detail.csv", encoding="utf-8", scope=SYSTEM):
    detail = tmp_path / name
    detail.write_bytes(rows if isinstance(rows, bytes) else text(rows).encode(encoding))
    other = None
    if sheet is not None:
        other = tmp_path / f"sheet-{name}.csv"
        other.write_bytes((sheet or sheet_of(rows)).encode(encoding))
    return batches.take(scope, county.consortium, detail, other)


def lines():
    return SettlementLine.objects.unscoped("test")


def fund_by_place(county, **given):
    (found,) = figures(SYSTEM, county.consortium, FIRST, LAST, ()) or [None]
    return {} if found is None else {p: s.fund.fen for p, s in found.at.items() if s.count}


@pytest.fixture
def county(db):
    return small_county()


def account_of(county, key):
    return Account.objects.create_user(
        f"f-{key}", "Test-2026-word", practitioner=county.posts[key].practitioner, name=key
    )


@pytest.fixture
def manager(county):
    return account_of(county, "manager")


# ---------------------------------------------------------------------------------------------------------------------- cells


def test_amounts_are_read_as_money_reads_them():
    rng = random.Random(7)
    cases = [
        "0",
        "0.0",
        "12.3",
        "-12.30",
        "1,234.56",
        "¥8.00",
        "００",
        "1e3",
        "1.234",
        "1.2300",
        "",
        "--1",
        "12.",
        ".5",
        "9999999999999.99",
        "+1",
        "1_0",
    ]
    cases += [f"{rng.choice(['', '-'])}{rng.randrange(10**9)}.{rng.randrange(100):02d}" for _ in range(200)]
    for case in cases:
        try:
            wanted = Money.of_yuan(case).fen
        except MoneyError:
            wanted = None
        try:
            found = checking.fen(case)
        except ValueError:
            found = None
        if case != "1.2300":  # Excel pads: nought behind the fen says nothing
            assert found == wanted, case
    assert checking.fen("30.300000000000001") == 3030
    assert checking.fen("1.5", 1_000_000) == 1_500_000
    with pytest.raises(ValueError, match=r"1\.5"):
        checking.fen("1.5", 1)


def test_headings_of_several_counties_are_recognised():
    national = [
        "setl_id",
        "certno",
        "psn_name",
        "insutype",
        "med_type",
        "fixmedins_code",
        "fixmedins_name",
        "setl_time",
        "medfee_sumamt",
        "inscp_scp_amt",
        "fund_pay_sumamt",
        "hifp_pay",
        "hifmi_pay",
        "hifob_pay",
        "maf_pay",
        "acct_pay",
        "acct_mulaid_pay",
        "psn_cash_pay",
        "psn_part_amt",
        "refd_setl_flag",
    ]
    found = layout.recognise(national)
    assert not layout.lacking(found)
    assert not found.ignored
    assert (len(found.at["big"]), len(found.at["account"])) == (2, 2)
    chinese = [
        "单据号",
        "社会保障号码",
        "险种名称",
        "就医类别",
        "医院代码",
        "报销日期",
        "总费用（元）",
        "报销金额（分）",
        "备注",
    ]
    found = layout.recognise(chinese)
    assert not layout.lacking(found)
    assert found.ignored == ["备注"]
    assert (found.fen[6], found.fen[7]) == (100, 1)
    assert [f.name for f in layout.lacking(layout.recognise(["结算ID", "总费用"]))] == [
        "scheme",
        "care",
        "provider",
        "settled_on",
        "fund",
    ]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({10: "12.345"}, "money"), ({10: "=1+1"}, "formula"), ({10: ""}, "missing"), ({9: "2026-02-30"}, "date"), ({9: "2099-01-01"}, "future"),
        ({0: ""}, "missing"), ({0: "x" * 61}, "too_long"), ({10: "-1.00", 12: "-1.00"}, "negative"), ({1: "331023196905170000"}, "id_check"),
        ({1: ""}, "id_missing"), ({8: "2026-02-01"}, "order"), ({7: "2026-04-01", 8: "2026-04-02"}, "settled_early"), ({8: ""}, "stay"),
        ({11: "200.00"}, "in_scope"), ({13: "1.00"}, "fund_parts"), ({17: "1.00"}, "total_parts"), ({19: "1.00"}, "personal_parts"),
        ({3: "火星保险"}, "scheme"), ({4: "喝茶"}, "care"), ({20: "也许"}, "flag"),
    ],
)  # fmt: skip
def test_a_row_is_asked_every_rule(change, rule):
    cells = row("S1")
    for position, value in change.items():
        cells[position] = value
    found = checking.Checker(layout.recognise(HEAD), dt.date(2026, 6, 1)).check(loading.reading.Row(2, cells))
    assert rule in [i.rule for i in found.issues]
    refused = layout.rules()[rule].severity == "refuse"
    assert isinstance(found, checking.Refused) == refused
    assert all(str(checking.words(i)) for i in found.issues)
    if refused and rule != "date":
        assert found.month == ("2026-03" if rule != "future" else "2099-01")


# -------------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-8-sig"])
def test_a_batch_that_agrees_is_counted_once(county, tmp_path, encoding):
    rows = [
        row("S1"),
        row("S2", "H33102300009", 5000, 3000, care="11"),
        row("S3", "H33010600001", 90000, 40000),
        row("S4", "P33102300001", 800, 0, care="41"),
    ]
    batch = take(tmp_path, county, rows, encoding=encoding)
    assert (batch.state, batch.rows, batch.rejected, batch.differences, batch.fund) == (
        "accepted",
        4,
        0,
        0,
        49000,
    )
    assert fund_by_place(county) == {"own": 6000, "other": 3000, "outside": 40000, "pharmacy": 0}
    again = take(tmp_path, county, rows, encoding=encoding)
    assert again.pk == batch.pk
    more = take(tmp_path, county, [*rows, row("S5", total=200, fund=100)], name="more.csv")
    assert (more.state, more.report["new"], more.report["unchanged"]) == ("accepted", 1, 4)
    assert fund_by_place(county)["own"] == 6100
    assert lines().count() == 9
    assert batches.check() == []
    arrival = Arrival.objects.get(pk=batch.arrival_id)
    assert (arrival.door, arrival.state) == ("settlement", "taken")
    assert b"".join(batches.pieces(batch, "detail")) == text(rows).encode(encoding)
    assert NUMBER.encode() not in bytes(lines().first().body)


def test_an_excel_file_with_a_title_and_odd_numbers(county, tmp_path):
    book = Workbook()
    book.active.append(["二〇二六年三月结算明细"])
    book.active.append(HEAD)
    cells = row("S1", total=3030, fund=3030)
    cells[10], cells[11], cells[12], cells[13] = 30.3, 30.300000000000004, 30.3, 30.3
    cells[9] = dt.datetime(2026, 3, 5, 10, 11)
    book.active.append(cells)
    out = io.BytesIO()
    book.save(out)
    batch = take(
        tmp_path, county, out.getvalue(), sheet_of([row("S1", total=3030, fund=3030)]), name="d.xlsx"
    )
    assert (batch.state, batch.total, batch.report["broken"]) == ("accepted", 3030, {})


def test_changed_content_is_a_new_version_and_a_withdrawal_gives_the_old_back(county, tmp_path):
    first = take(tmp_path, county, [row("S1"), row("S2")])
    second = take(tmp_path, county, [row("S1", fund=7000)], name="b.csv")
    assert (second.report["changed"], fund_by_place(county)) == (1, {"own": 13000})
    assert list(lines().filter(settlement_id="S1").order_by("version").values_list("version", "current")) == [
        (1, False),
        (2, True),
    ]
    with pytest.raises(Refusal):
        batches.withdraw(SYSTEM, second.pk, " ")
    batches.withdraw(SYSTEM, second.pk, "经办机构撤回")
    assert fund_by_place(county) == {"own": 12000}
    batches.withdraw(SYSTEM, first.pk, "经办机构撤回")
    assert fund_by_place(county) == {}
    anew = take(tmp_path, county, [row("S1"), row("S2")])
    assert anew.pk != first.pk
    assert fund_by_place(county) == {"own": 12000}
    assert batches.check() == []


def test_a_reversal_nets_out(county, tmp_path):
    back = row("S9", total=-10000, fund=-6000, back="1", of="S1")
    same = row("S2", total=-10000, fund=-6000, back="1")  # some systems reverse under the same number
    batch = take(tmp_path, county, [row("S1", back="1"), back, row("S2"), same, row("S3")])
    assert (batch.state, batch.report["broken"]) == ("accepted", {})
    (found,) = figures(SYSTEM, county.consortium, FIRST, LAST, ())
    assert (found.at["own"].fund.fen, found.at["own"].count, found.at["own"].discharges) == (6000, 1, 1)
    odd = take(
        tmp_path,
        county,
        [
            row("S8", total=-100, fund=-50, back="1", of="S77"),
            row("S10", total=-9000, fund=-6000, of="S3"),
            row("S11", back="1"),
        ],
        name="b.csv",
    )
    assert odd.report["broken"] == {"reversal_of": 1, "reversal_amount": 1, "refunded": 1}


def test_a_difference_holds_the_batch_until_somebody_decides(county, tmp_path, manager):
    rows = [
        row("S1"),
        row("S2", "H33102300009", 5000, 3000),
        row("S3", "H33102300009", 5000, 3000, scheme="390"),
    ]
    bad = [*rows[:2], row("S3", "H33102300009", 5000, 3000, scheme="390")]
    bad[2][10] = "五十元"
    batch = take(tmp_path, county, bad, sheet_of(rows))
    assert (batch.state, batch.rows, batch.rejected, batch.differences) == ("held", 2, 1, 1)
    assert fund_by_place(county) == {}
    (found,) = control.compare(batch)
    assert (found.provider, found.scheme, found.month, found.by) == (
        "H33102300009",
        "resident",
        "2026-03",
        (-1, -5000, -3000),
    )
    assert [i.row for i in control.candidates(batch, found)["issues"]] == [4]
    assert Finding.objects.filter(arrival_id=batch.arrival_id, rule="settlement.money").exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        SettlementBatch.objects.filter(pk=batch.pk).update(state="accepted")
    with pytest.raises(NotPermitted):
        batches.accept(scope_for_account(account_of(county, "system_admin")), batch.pk, "我说可以")
    batches.accept(scope_for_account(manager), batch.pk, "该行已与经办机构核实，下月补报")
    assert fund_by_place(county) == {"own": 6000, "other": 3000}
    event = AuditEvent.objects.filter(what=f"settlement batch {batch.pk}", action="admin").latest("id")
    assert "下月补报" in event.detail
    with pytest.raises(Refusal):
        batches.accept(scope_for_account(manager), batch.pk, "再来一次")


def test_a_corrected_sheet_lets_it_in(county, tmp_path):
    rows = [row("S1"), row("S1"), row("S2")]
    held = take(tmp_path, county, rows)
    assert (held.state, held.rejected, held.report["broken"]) == ("held", 1, {"duplicate": 1})
    right = io.BytesIO(
        "机构名称,总费用（元）,基金支付\nSC-RMYY,200.00,120.00\n合计,200.00,120.00\n".encode("gb18030")
    )
    assert batches.new_sheet(SYSTEM, held.pk, right, "again.csv").state == "accepted"
    none = take(tmp_path, county, [row("S7")], None, name="none.csv")
    assert (none.state, none.differences) == ("held", 1)


def test_groups_that_only_one_side_has_are_differences(county, tmp_path):
    sheet = "机构编码,月份,人次,总费用,基金支付\nSC-RMYY,202603,1,100.00,60.00\nSC-ZYY,2026年3月,2,5.00,1.00\n小计,,9,9,9\n总计,,3,105.00,61.00\n"
    batch = take(tmp_path, county, [row("S1"), row("S2", "SC-T1")], sheet)
    found = {(d.provider, d.month): d.by for d in control.compare(batch)}
    assert found == {
        ("SC-ZYY", "2026-03"): (-2, -500, -100),
        ("SC-T1", "2026-03"): (1, 10000, 6000),
        ("", ""): (-1, 9500, 5900),
    }
    assert [r["key"] for r in control.summary(control.compare(batch))["provider"]] == ["SC-T1", "SC-ZYY"]


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "空"), (b"a,b,c\n1,2,3\n", "没有认出"), (text([]).encode(), "没有数据行"), (b"%PDF-1.4", "PDF"), (b"\xff\xfe" * 400 + b"\x00\x01", "")],
)  # fmt: skip
def test_what_is_no_settlement_file_is_refused_and_kept(county, tmp_path, data, said):
    if not data:
        data = b"\n"
    batch = take(tmp_path, county, data, None)
    assert batch.state == "refused"
    assert said in batch.report["refused"]["zh"]
    arrival = Arrival.objects.get(pk=batch.arrival_id)
    assert (arrival.state, arrival.door) == ("refused", "settlement")
    assert inbox.replay(arrival.pk).state == "refused"
    assert take(tmp_path, county, data, None).pk == batch.pk


def test_a_crash_in_the_middle_leaves_nothing_counted(county, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "CHUNK", 10)
    rows = [row(f"S{i}", total=100 + i, fund=50) for i in range(35)]
    real, calls = loading.Loader._part, []

    def dying(self, checked):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, checked)

    monkeypatch.setattr(loading.Loader, "_part", dying)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path, county, rows)
    batch = SettlementBatch.objects.get()
    assert (batch.state, lines().count(), fund_by_place(county)) == ("uploaded", 0, {})
    monkeypatch.setattr(loading.Loader, "_part", real)
    with clock.at(clock.now() + dt.timedelta(hours=1)):
        assert batches.resume() == 1
    batch.refresh_from_db()
    assert (batch.state, batch.rows) == ("accepted", 35)
    assert fund_by_place(county) == {"own": 1750}


def test_the_database_keeps_what_a_line_says(county, tmp_path):
    batch = take(tmp_path, county, [row("S1")])
    for change in ({"fund": 1}, {"settlement_id": "S2"}, {"settled_on": dt.date(2026, 1, 1)}):
        with pytest.raises(IntegrityError), transaction.atomic():
            lines().filter(batch=batch).update(**change)
    with pytest.raises(Exception, match=r"nvalid|transition"), transaction.atomic():
        SettlementBatch.objects.filter(pk=batch.pk).update(state="uploaded")


# ------------------------------------------------------------------------------------------------------------- people and places


def register(county, name="单立秋", number=NUMBER, local="1", **more):
    born = dt.datetime.strptime(number[6:14], "%Y%m%d").date()
    reg = Registration(
        county.townships[0].pk, "urn:test:his", local, name, "female", born, "01", number, **more
    )
    return registry.register(SYSTEM, reg).person_id


def test_people_are_found_by_number_now_or_later(county, tmp_path):
    stranger = make_resident_id(dt.date(1980, 2, 3), 34)
    person = register(county, home_institution_id=county.villages[0].pk)
    batch = take(
        tmp_path, county, [row("S1"), row("S2", id_no=stranger, name="郁*兰"), row("S3", name="不是她")]
    )
    assert batch.report["linked"] == 1
    assert batch.report["broken"] == {"identity": 1}
    assert lines().get(settlement_id="S1").person_id == person
    assert linking.link_rest() == 0
    later = register(county, "郁秋兰", stranger, local="2")
    assert linking.link_rest() == 1
    assert lines().get(settlement_id="S2").person_id == later
    found = {
        f.key["home"]: f.at["own"].count for f in figures(SYSTEM, county.consortium, FIRST, LAST, ("home",))
    }
    assert found[str(county.townships[0].pk)] == 1
    assert sum(found.values()) == 3


def test_where_a_provider_stands_follows_membership_and_what_people_say(county, tmp_path, manager):
    joined = make_institution("SC-NEW", "township", name="新入社卫生院", division="331023")
    Membership.objects.create(
        consortium=county.consortium, institution=joined, role="member", since=dt.date(2026, 3, 1)
    )
    make_institution("SC-PRIV", "hospital", name="民营医院", division="331023", ownership="private")
    rows = [
        row("S1", "SC-T1-V1"), row("S2", "X9", where="青溪县中医院"), row("S3", "SC-NEW", day="2026-02-27"), row("S4", "SC-NEW"),
        row("S5", "SC-PRIV"), row("S6", "Z-1", where="康民大药房"), row("S7", "Q-17", where="不知何处"),
    ]  # fmt: skip
    batch = take(tmp_path, county, rows)
    assert fund_by_place(county) == {"own": 18000, "other": 12000, "pharmacy": 6000, "unknown": 6000}
    assert batch.report["broken"]["provider"] == 1
    browser = Browser()
    browser.force_login(manager)
    which = SettlementProvider.objects.get(code="Q-17")
    address = "/feeds/settlement/providers"
    assert "Q-17" in browser.get(address).content.decode()
    assert browser.post(address, {"provider": which.pk, "place": "own"}).status_code == 422
    assert browser.post(address, {"provider": which.pk, "place": "outside"}).status_code == 302
    assert fund_by_place(county)["outside"] == 6000


def test_figures_are_the_consortium_office_s_alone(county, tmp_path, manager):
    take(tmp_path, county, [row("S1")])
    (found,) = figures(
        scope_for_account(manager), county.consortium, FIRST, LAST, ("scheme", "care", "tier", "month")
    )
    assert found.key == {"scheme": "employee", "care": "inpatient", "tier": "county", "month": "2026-03"}
    assert str(found.actual) == "60.00"
    with pytest.raises(NotPermitted):
        figures(scope_for_account(account_of(county, "clinician")), county.consortium, FIRST, LAST)
    with pytest.raises(KeyError):
        figures(SYSTEM, county.consortium, FIRST, LAST, ("shoe_size",))


# ------------------------------------------------------------------------------------------------------------------ pages and door


def test_the_pages_from_upload_to_a_decision(county, manager):
    browser = Browser()
    browser.force_login(manager)
    assert browser.get("/feeds/settlement").status_code == 200
    rows = [row("S1"), row("S2")]
    rows[1][10] = "x"
    given = {
        "detail": SimpleUploadedFile("三月.csv", text(rows).encode()),
        "sheet": SimpleUploadedFile("对账.csv", sheet_of([row("S1"), row("S2")]).encode()),
    }
    assert browser.post("/feeds/settlement/new", {}).status_code == 400
    answer = browser.post("/feeds/settlement/new", given)
    batch = SettlementBatch.objects.get()
    assert answer.headers["Location"] == f"/feeds/settlement/{batch.pk}"
    page = browser.get(
        f"/feeds/settlement/{batch.pk}?of=1&provider=SC-RMYY&scheme=employee&month=2026-03&rule=money"
    ).content.decode()
    assert "SC-RMYY" in page
    assert "不是以元为单位" in page
    listed = browser.get(
        f"/feeds/settlement/{batch.pk}/lines?care=inpatient&place=own&linked=no&scheme=employee&q=S1"
    ).content.decode()
    assert "S1" in listed
    assert NUMBER not in listed
    assert "单立秋" not in listed
    assert browser.post(f"/feeds/settlement/{batch.pk}/accept", {"reason": ""}).status_code == 422
    assert browser.post(f"/feeds/settlement/{batch.pk}/sheet", {}).status_code == 422
    assert browser.get(f"/feeds/settlement/{batch.pk}/original/detail").status_code == 403
    assert (
        browser.post(f"/feeds/settlement/{batch.pk}/accept", {"reason": "已与经办机构核实"}).status_code
        == 302
    )
    assert "60.00" in browser.get("/feeds/settlement").content.decode()
    assert browser.post(f"/feeds/settlement/{batch.pk}/withdraw", {"reason": "报错了月份"}).status_code == 302
    strange = Browser()
    other = small_county("OC")
    strange.force_login(
        Account.objects.create_user(
            "f-strange", "Test-2026-word", practitioner=other.posts["manager"].practitioner, name="x"
        )
    )
    assert strange.get(f"/feeds/settlement/{batch.pk}").status_code == 404
    assert strange.post(f"/feeds/settlement/{batch.pk}/withdraw", {"reason": "不是我的"}).status_code == 404
    clinician = Browser()
    clinician.force_login(account_of(county, "clinician"))
    assert clinician.get("/feeds/settlement").status_code == 403


def test_the_bureau_s_system_hands_in_by_the_door(county):
    make_institution("SC-YBJ", "other", name="青溪县医疗保障局", division="331023")
    make_institution("SC-OUT", "other", name="邻县医疗保障局", division="331099")
    token = tokens.issue("YBJ", "system/ExplanationOfBenefit.c", "SC-YBJ")
    rows = [row("S1"), row("S2")]

    def send(bearer, detail=rows, sheet=rows, **more):
        files = {"detail": SimpleUploadedFile("d.csv", text(detail).encode())} if detail is not None else {}
        files |= {"control": SimpleUploadedFile("c.csv", sheet_of(sheet).encode())}
        return Browser(enforce_csrf_checks=True).post(
            "/settlement", files | more, headers={"Authorization": f"Bearer {bearer}"}
        )

    assert send("nobody").status_code == 401
    assert send(tokens.issue("A", "system/Observation.c", "SC-YBJ")).status_code == 403
    assert send(tokens.issue("B", "system/*.cruds", "SC-T1")).status_code == 403
    assert send(tokens.issue("C", "system/*.cruds", "SC-OUT")).status_code == 403
    assert send(token, None).status_code == 400
    assert Browser().get("/settlement").status_code == 405
    made = send(token)
    assert made.status_code == 201
    assert made.json()["fund"] == "120.00"
    assert made.json()["differences"] == 0
    known = send(token)
    assert (known.status_code, known.json()["batch"]) == (200, made.json()["batch"])
    held = send(token, [row("S5")], [row("S5", fund=5000)], consortium="SC")
    assert held.status_code == 202
    assert held.json()["where"][0]["by"] == {"rows": 0, "total": "0.00", "fund": "10.00"}
    batch = SettlementBatch.objects.get(pk=held.json()["batch"])
    assert batch.institution.code == "SC-YBJ"
    refused = Browser().post(
        "/settlement",
        {"detail": SimpleUploadedFile("d.csv", b"a,b\n1,2\n")},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert refused.status_code == 422
    assert "没有认出" in refused.json()["error"]["zh"]
    assert clock.today() > SINCE
