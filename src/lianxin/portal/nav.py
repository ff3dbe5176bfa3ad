"""The side menu: one table of entries with the roles that may see each, cut down to what a scope may do.

An entry whose address does not resolve (a room that is not installed) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.urls import Resolver404, resolve

from lianxin.network.roles import CLINICAL
from lianxin.standards.text import T, Text

ADMINS = frozenset({"system_admin", "security_admin", "audit_admin"})


@dataclass(frozen=True)
class Entry:
    """One line of the menu, for some ``roles``, for a permission (``may``), or with neither for everybody signed in."""

    path: str
    icon: str
    label: Text
    roles: frozenset[str] = frozenset()
    may: str = ""
    group: str = "work"
    phone: bool = False

    def open_to(self, scope: Any) -> bool:
        """Whether somebody acting in ``scope`` is offered this entry."""
        if self.may:
            return bool(scope.may(self.may))
        return not self.roles or bool(self.roles & scope.roles)


GROUPS = {
    "work": T("工作", "Work"),
    "feeds": T("数据汇聚", "Data collection"),
    "pools": T("资源池", "Resource pools"),
    "centres": T("共享中心", "Shared centres"),
    "consortium": T("医共体", "Consortium"),
    "manage": T("管理", "Administration"),
}

ENTRIES = (
    Entry("/", "check2-square", T("我的待办", "My duties"), phone=True),
    Entry("/people", "person-vcard", T("找患者", "Find a person"), may="find_person", phone=True),
    Entry("/desk/receiving", "box-arrow-in-down", T("接诊台", "Receiving desk"), may="receive", phone=True),
    Entry(
        "/desk/reception",
        "person-check",
        T("到诊登记", "Arrivals"),
        roles=frozenset({"reception", "referral_desk"}),
        phone=True,
    ),
    Entry("/desk/down", "arrow-return-left", T("下转台", "Step-down desk"), may="receive"),
    Entry(
        "/followups",
        "calendar2-heart",
        T("随访", "Follow-ups"),
        roles=frozenset({"village_doctor", "gp", "family_doctor"}),
        phone=True,
    ),
    Entry("/index/reviews", "people", T("匹配复核", "Matching review"), may="review_links", phone=True),
    Entry("/index/people", "person-bounding-box", T("身份与合并", "Identities"), may="review_links"),
    Entry("/index/batch", "sliders", T("重新关联与权重", "Re-links and weights"), may="relink"),
    Entry("/index/quality", "graph-up", T("登记质量", "Registration quality"), may="review_links"),
    Entry(
        "/rosters", "list-columns", T("居民名册", "Lists of people"), may="review_links", group="consortium"
    ),
    Entry("/feeds", "activity", T("汇聚总览", "Feeds"), may="see_feeds", group="feeds"),
    Entry("/feeds/messages", "inbox", T("来件", "Messages received"), may="see_feeds", group="feeds"),
    Entry("/feeds/quality", "clipboard-data", T("数据质量", "Data quality"), may="see_feeds", group="feeds"),
    Entry("/feeds/rules", "ui-checks", T("质控规则", "Quality rules"), may="see_feeds", group="feeds"),
    Entry(
        "/feeds/documents", "file-earmark-medical", T("共享文档", "Documents"), may="see_feeds", group="feeds"
    ),
    Entry("/feeds/tables", "table", T("表格采集", "Tables"), may="see_feeds", group="feeds"),
    Entry("/feeds/settlement", "cash-stack", T("结算明细", "Settlements"), may="see_feeds", group="feeds"),
    Entry("/feeds/mappings", "signpost-split", T("消息映射", "Mappings"), may="see_feeds", group="feeds"),
    Entry("/feeds/partners", "plug", T("接入方", "Partners"), may="see_feeds", group="feeds"),
    Entry("/pools", "calendar-plus", T("预约挂号", "Book a number"), may="book", group="pools", phone=True),
    Entry("/desk/today", "person-lines-fill", T("当日接诊", "Today's desk"), may="serve_desk", group="pools"),
    Entry("/schedules", "calendar3", T("排班与停诊", "Schedules"), may="run_schedules", group="pools"),
    Entry("/beds", "grid-3x3-gap", T("床位一览", "Bed board"), may="see_pools", group="pools"),
    Entry("/exams", "clipboard2-pulse", T("检查预约", "Examinations"), may="see_pools", group="pools"),
    Entry("/theatres", "door-open", T("手术间", "Theatres"), may="run_beds", group="pools"),
    Entry(
        "/pools/usage",
        "bar-chart-steps",
        T("号源使用与配额", "Use and quotas"),
        may="run_schedules",
        group="pools",
    ),
    Entry(
        "/pools/sync",
        "arrow-repeat",
        T("医院系统同步", "Hospital systems"),
        may="run_schedules",
        group="pools",
    ),
    Entry(
        "/pools/appeals", "chat-left-text", T("爽约与申诉", "Missed visits"), may="see_missed", group="pools"
    ),
    Entry(
        "/cards", "credit-card-2-front", T("电子健康卡", "E-health cards"), may="manage_cards", group="pools"
    ),
    Entry(
        "/orders",
        "clipboard2-plus",
        T("检查检验", "Orders and results"),
        may="see_orders",
        group="centres",
        phone=True,
    ),
    Entry("/acquire", "camera", T("登记与采集", "Acquisition"), may="acquire", group="centres", phone=True),
    Entry("/reading", "file-earmark-ruled", T("诊断队列", "Reading"), may="read_studies", group="centres"),
    Entry(
        "/critical",
        "exclamation-octagon",
        T("危急值", "Critical values"),
        may="handle_critical",
        group="centres",
        phone=True,
    ),
    Entry(
        "/imaging",
        "images",
        T("影像检查", "Imaging"),
        roles=frozenset({"reader", "technician", "clinician", "gp", "ward"}),
        group="centres",
    ),
    Entry("/ecg", "activity", T("心电中心", "ECG centre"), may="see_orders", group="centres", phone=True),
    Entry(
        "/chest-pain",
        "heart-pulse",
        T("胸痛绿色通道", "Chest-pain channel"),
        may="handle_critical",
        group="centres",
        phone=True,
    ),
    Entry("/laboratory", "droplet", T("检验中心", "Laboratory"), may="run_laboratory", group="centres"),
    Entry(
        "/specimens",
        "eyedropper",
        T("标本采集与转运", "Specimens"),
        may="acquire",
        group="centres",
        phone=True,
    ),
    Entry(
        "/pathology",
        "bezier2",
        T("病理中心", "Pathology"),
        roles=frozenset({"reader", "laboratory", "technician"}),
        group="centres",
    ),
    Entry(
        "/consults",
        "camera-video",
        T("远程会诊", "Teleconsultation"),
        may="consult",
        group="centres",
        phone=True,
    ),
    Entry(
        "/outreach",
        "signpost-2",
        T("下派坐诊与带教", "Outreach and teaching"),
        may="see_orders",
        group="centres",
    ),
    Entry(
        "/recognition",
        "patch-check",
        T("结果互认", "Mutual recognition"),
        may="see_recognition",
        group="centres",
    ),
    Entry(
        "/sterile",
        "shield-plus",
        T("消毒供应", "Sterile supply"),
        may="use_sterile",
        group="centres",
        phone=True,
    ),
    Entry(
        "/reading/statistics",
        "bar-chart",
        T("中心统计", "Centre statistics"),
        may="run_centres",
        group="centres",
    ),
    Entry("/archive", "archive", T("影像归档", "Image archive"), may="run_archive", group="centres"),
    Entry("/flow", "shuffle", T("转诊流向", "Referral flow"), may="see_flow", group="consortium"),
    Entry("/network", "diagram-3", T("成员机构", "Members"), group="consortium"),
    Entry(
        "/auth/grants",
        "app-indicator",
        T("我授权的应用", "Apps I let in"),
        roles=CLINICAL,
        group="consortium",
    ),
    Entry("/catalogues", "journal-check", T("病种目录", "Disease catalogues"), group="consortium"),
    Entry(
        "/manage/institutions",
        "hospital",
        T("机构", "Institutions"),
        roles=frozenset({"system_admin", "manager"}),
        group="manage",
    ),
    Entry(
        "/manage/consortia",
        "bounding-box",
        T("医联体", "Consortia"),
        roles=frozenset({"system_admin", "manager"}),
        group="manage",
    ),
    Entry(
        "/manage/people",
        "people",
        T("人员与岗位", "People and posts"),
        roles=frozenset({"system_admin", "manager"}),
        group="manage",
    ),
    Entry("/manage/accounts", "key", T("账号", "Accounts"), may="manage_accounts", group="manage"),
    Entry(
        "/manage/clients",
        "hdd-network",
        T("系统与应用", "Systems and apps"),
        may="manage_accounts",
        group="manage",
    ),
    Entry(
        "/manage/subscriptions",
        "broadcast",
        T("订阅", "Subscriptions"),
        roles=frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/booking-systems",
        "hospital",
        T("医院预约系统", "Booking systems"),
        roles=frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/hl7v2",
        "arrow-left-right",
        T("HL7 v2 系统", "HL7 v2 systems"),
        roles=frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/sms",
        "chat-left-text",
        T("短信", "Text messages"),
        roles=frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/domains",
        "hash",
        T("标识域", "Identifier domains"),
        roles=frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/sheets",
        "file-earmark-spreadsheet",
        T("表格导入导出", "Spreadsheets"),
        frozenset({"system_admin"}),
        group="manage",
    ),
    Entry(
        "/manage/bulk", "download", T("批量数据", "Bulk data"), frozenset({"system_admin"}), group="manage"
    ),
    Entry("/audit", "shield-check", T("审计", "Audit"), may="read_audit", group="manage"),
    Entry(
        "/break-glass",
        "unlock",
        T("紧急查阅复核", "Break-glass review"),
        may="review_break_glass",
        group="manage",
    ),
)


@cache
def _resolves(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def entries(scope: Any) -> list[Entry]:
    """The entries somebody acting in ``scope`` is offered, in order."""
    return [entry for entry in ENTRIES if entry.open_to(scope) and _resolves(entry.path)]


def menu(scope: Any, path: str) -> list[dict[str, Any]]:
    """The menu as groups of lines, the line one is on marked ``here``."""
    mine = entries(scope)
    here = max(
        (e.path for e in mine if path == e.path or (e.path != "/" and path.startswith(e.path))),
        key=len,
        default="",
    )
    groups = []
    for code, label in GROUPS.items():
        lines = [{"entry": e, "here": e.path == here} for e in mine if e.group == code]
        if lines:
            groups.append({"label": label, "lines": lines})
    return groups
