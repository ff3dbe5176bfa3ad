"""The side menu: one table of entries with the roles that may see each, cut down to what a scope may do.

An entry whose address does not resolve (a room that is not installed) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.urls import Resolver404, resolve

from lianxin.standards.text import T, Text

ADMINS = frozenset({"system_admin", "security_admin", "audit_admin"})


@dataclass(frozen=True)
class Entry:
    """One line of the menu: ``roles`` empty means everybody who has signed in; ``clinical`` means any clinical role."""

    path: str
    icon: str
    label: Text
    roles: frozenset[str] = frozenset()
    clinical: bool = False
    group: str = "work"
    phone: bool = False

    def open_to(self, scope: Any) -> bool:
        """Whether somebody acting in ``scope`` is offered this entry."""
        if not self.roles and not self.clinical:
            return True
        return bool(self.roles & scope.roles) or (self.clinical and scope.clinical)


GROUPS = {
    "work": T("工作", "Work"),
    "consortium": T("医共体", "Consortium"),
    "manage": T("管理", "Administration"),
}

ENTRIES = (
    Entry("/", "check2-square", T("我的待办", "My duties"), phone=True),
    Entry("/people", "person-vcard", T("找患者", "Find a person"), clinical=True, phone=True),
    Entry(
        "/desk/receiving",
        "box-arrow-in-down",
        T("接诊台", "Receiving desk"),
        frozenset({"referral_desk", "clinician", "gp", "ward", "reception", "manager"}),
        phone=True,
    ),
    Entry(
        "/desk/down",
        "arrow-return-left",
        T("下转台", "Down-referral desk"),
        frozenset({"referral_desk", "clinician", "ward", "gp", "family_doctor", "manager"}),
    ),
    Entry(
        "/flow",
        "shuffle",
        T("转诊流向", "Referral flow"),
        frozenset({"manager", "referral_desk"}),
        group="consortium",
    ),
    Entry("/network", "diagram-3", T("成员机构", "Members"), group="consortium"),
    Entry("/catalogues", "journal-check", T("病种目录", "Disease catalogues"), group="consortium"),
    Entry(
        "/manage/institutions",
        "hospital",
        T("机构", "Institutions"),
        frozenset({"system_admin", "manager"}),
        group="manage",
    ),
    Entry(
        "/manage/people",
        "people",
        T("人员与岗位", "People and posts"),
        frozenset({"system_admin", "manager"}),
        group="manage",
    ),
    Entry("/manage/accounts", "key", T("账号", "Accounts"), frozenset({"security_admin"}), group="manage"),
    Entry(
        "/manage/sheets",
        "file-earmark-spreadsheet",
        T("表格导入导出", "Spreadsheets"),
        frozenset({"system_admin"}),
        group="manage",
    ),
    Entry("/audit", "shield-check", T("审计", "Audit"), frozenset({"audit_admin"}), group="manage"),
    Entry(
        "/break-glass",
        "unlock",
        T("紧急查阅复核", "Break-glass review"),
        frozenset({"audit_admin", "security_admin", "manager"}),
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
