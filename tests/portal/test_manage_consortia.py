"""Administration of consortia: facts and lead, members, agreements, rules with their defaults, capabilities."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client

from lianxin.access.models import AuditEvent
from lianxin.clinical.referral import policy
from lianxin.network.models import Agreement, Capability, Consortium, Membership
from tests.factories import make_institution
from tests.portal.conftest import Town

FACTS = {"name": "青溪县骨科联盟", "code": "SC-GK", "form": "specialist_alliance"}


def test_a_consortium_is_made_and_its_lead_changes(as_: Callable[..., Client], town: Town) -> None:
    client, lead, tcm = as_("system_admin"), town.county.lead, town.county.tcm
    made = client.post("/manage/consortia/new", FACTS | {"lead": lead.pk, "founded": "2024-03-01"})
    assert made.headers["Location"] == "/manage/consortia/SC-GK"
    client.post("/manage/consortia/SC-GK", FACTS | {"lead": tcm.pk, "name_en": "Alliance"})
    row = Consortium.objects.get(code="SC-GK")
    assert row.lead == tcm
    holds = dict(Membership.objects.live().filter(consortium=row).values_list("institution_id", "role"))
    assert holds == {lead.pk: "member", tcm.pk: "lead"}
    assert AuditEvent.objects.filter(action="admin", what="consortium SC-GK").count() == 2
    page = client.get("/manage/consortia").content.decode()
    assert "青溪县骨科联盟" in page
    assert "专科联盟" in page


def test_what_is_wrong_with_a_consortium_is_said_beside_the_field(
    as_: Callable[..., Client], town: Town
) -> None:
    client = as_("system_admin")
    bad = {"name": "", "code": town.county.consortium.code, "form": "club", "division": "33", "lead": "0"}
    page = client.post("/manage/consortia/new", bad).content.decode()
    for words in ("此项必填", "已经有这个值", "请从列表中选择", "区划代码是六位数字"):
        assert words in page, words
    client.cookies["lianxin_lang"] = "en"
    assert "A division code has six digits" in client.post("/manage/consortia/new", bad).content.decode()
    assert as_("manager").get("/manage/consortia").status_code == 200
    assert as_("manager").get("/manage/consortia/new").status_code == 403


def test_members_join_and_leave_but_not_the_lead(as_: Callable[..., Client], town: Town) -> None:
    client, row = as_("system_admin"), town.county.consortium
    where, joining = f"/manage/consortia/{row.code}", make_institution("SC-NEW", name="新乡卫生院")
    wanted = {"institution": joining.pk, "role": "branch", "since": "2026-01-01"}
    client.post(where + "/members", wanted)
    member = Membership.objects.get(consortium=row, institution=joining)
    assert (member.role, member.until) == ("branch", None)
    assert "已是成员" in client.post(where + "/members", wanted).content.decode()
    assert "请从列表中选择" in client.post(where + "/members", wanted | {"role": "lead"}).content.decode()
    client.post(f"/manage/members/{member.pk}/end")
    member.refresh_from_db()
    assert member.until is not None
    assert client.post(f"/manage/members/{member.pk}/end").status_code == 404
    lead = Membership.objects.get(consortium=row, role="lead")
    assert "请先更换牵头单位" in client.post(f"/manage/members/{lead.pk}/end", follow=True).content.decode()
    lead.refresh_from_db()
    assert lead.until is None
    assert "已退出 1 家" in client.get(where).content.decode()
    assert (
        AuditEvent.objects.filter(action="admin", what__startswith=f"consortium {row.code} member").count()
        == 2
    )


def test_agreements_are_recorded_and_ended(as_: Callable[..., Client], town: Town) -> None:
    client, row = as_("system_admin"), town.county.consortium
    where = f"/manage/consortia/{row.code}"
    good = {
        "number": "XY-2026-9", "kind": "remote", "party_a": town.county.lead.pk, "party_b": town.county.tcm.pk,
        "since": "2026-02-01", "until": "2026-01-01",
    }  # fmt: skip
    bad = client.post(where + "/agreements", good | {"party_b": town.county.lead.pk}).content.decode()
    assert "不能是同一家机构" in bad
    assert "结束日期早于开始日期" in bad
    client.post(where + "/agreements", good | {"until": ""})
    made = Agreement.objects.get(number="XY-2026-9")
    assert "已有此编号" in client.post(where + "/agreements", good | {"until": ""}).content.decode()
    client.post(f"/manage/agreements/{made.pk}/end")
    made.refresh_from_db()
    assert made.until is not None
    assert client.post(f"/manage/agreements/{made.pk}/end").status_code == 404


def test_rules_stand_beside_their_defaults_and_are_checked(as_: Callable[..., Client], town: Town) -> None:
    client, row = as_("system_admin"), town.county.consortium
    where = f"/manage/consortia/{row.code}/rules"
    page = client.get(where).content.decode()
    assert "签收转诊（紧急）" in page
    assert "4小时" in page
    bad = {"clock__ack__urgent": "soon", "count__reschedule": "-1", "grace__no_show": "2wd", "more": "{oops"}
    page = client.post(where, bad).content.decode()
    for words in ("写成数字加单位", "0 至 9999", "按钟点计", "不是合法的 JSON", 'value="soon"'):
        assert words in page, words
    for more, words in (
        ('{"clocks": {"tea": {"info": "3wd"}}}', "没有名为 tea 的业务"),
        ('{"clocks": {"referral": {"info": "x"}}}', "referral.info"),
        ('{"referral": {"clock.brew": "3wd"}}', "没有名为 clock.brew 的设置"),
        ("[1]", "JSON 对象"),
    ):
        assert words in client.post(where, {"more": more}).content.decode(), more
    row.refresh_from_db()
    assert row.rules == {}
    more = '{"referral": {"clock.across.ack": "2h"}, "clocks": {"referral": {"info": "3wd"}}}'
    client.post(where, {"clock__ack__urgent": "2h", "count__reschedule": "5", "more": more})
    row.refresh_from_db()
    assert row.rules == {
        "referral": {"clock.across.ack": "2h", "clock.ack.urgent": "2h", "count.reschedule": 5},
        "clocks": {"referral": {"info": "3wd"}},
    }
    assert policy.value("clock.ack.urgent", row) == "2h"
    assert policy.clock_spec("ack", "across", "routine", policy.values(row)) == "2h"
    page = client.get(where).content.decode()
    assert "2小时" in page
    client.post(where, {"more": ""})
    row.refresh_from_db()
    assert row.rules == {}
    assert AuditEvent.objects.filter(action="admin", what=f"consortium {row.code} rules").count() == 2


def test_capabilities_are_recorded_and_ended(as_: Callable[..., Client], town: Town) -> None:
    client, inst = as_("system_admin"), town.county.townships[0]
    where = f"/manage/institutions/{inst.code}"
    page = client.post(
        where + "/capabilities", {"kind": "specialty", "code": "99.99", "since": "2026-01-01"}
    ).content.decode()
    assert "没有这个诊疗科目代码" in page
    page = client.post(
        where + "/capabilities", {"kind": "device", "code": "坏", "since": "2026-01-01"}
    ).content.decode()
    assert "代码只能有字母" in page
    device = {"kind": "device", "code": "DR", "since": "2026-01-01", "name": ""}
    assert "请填写名称" in client.post(where + "/capabilities", device).content.decode()
    client.post(where + "/capabilities", device | {"name": "数字化 X 线机"})
    made = Capability.objects.get(institution=inst, code="DR")
    assert (
        "已登记此能力" in client.post(where + "/capabilities", device | {"name": "又一台"}).content.decode()
    )
    client.post(f"/manage/capabilities/{made.pk}/end")
    made.refresh_from_db()
    assert made.until is not None
    assert (
        AuditEvent.objects.filter(
            action="admin", what__startswith=f"capability {inst.code}/device/DR"
        ).count()
        == 2
    )
