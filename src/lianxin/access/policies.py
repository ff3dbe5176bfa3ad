"""Who may do what: one table from permission to roles, with the words shown to people.

The three administrators are separated (GB/T 22239-2019, level 3): the system administrator keeps institutions and people, the
security administrator keeps accounts, the audit administrator reads the audit; none of them reaches a patient.
"""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.network import roles as r
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Permission:
    """One thing a role may do; ``client``: machine clients may too (within their SMART scopes)."""

    label: Text
    roles: frozenset[str]
    client: bool = False


_CARE = frozenset({r.VILLAGE_DOCTOR, r.GP, r.FAMILY_DOCTOR, r.CLINICIAN, r.WARD})

PERMISSIONS: dict[str, Permission] = {
    "manage_institutions": Permission(T("维护机构", "Manage institutions"), frozenset({r.SYSTEM_ADMIN})),
    "manage_people": Permission(T("维护人员与岗位", "Manage staff and posts"), frozenset({r.SYSTEM_ADMIN})),
    "manage_accounts": Permission(T("维护账号", "Manage accounts"), frozenset({r.SECURITY_ADMIN})),
    "review_break_glass": Permission(
        T("复核紧急调阅", "Review emergency openings"), frozenset({r.SECURITY_ADMIN, r.MANAGER})
    ),
    "read_audit": Permission(T("查看审计日志", "Read the audit log"), frozenset({r.AUDIT_ADMIN})),
    "see_flow": Permission(T("查看转诊流向", "See referral flow"), frozenset({r.MANAGER, r.REFERRAL_DESK})),
    "manage_catalogue": Permission(T("维护病种目录", "Manage disease catalogues"), frozenset({r.MANAGER})),
    "review_links": Permission(
        T("处理主索引疑似重复", "Decide possible duplicates in the index"),
        frozenset({r.INDEX_MANAGER, r.REFERRAL_DESK, r.RECEPTION, r.GP, r.FAMILY_DOCTOR}),
    ),
    "relink": Permission(
        T("审批主索引重新关联与权重", "Decide re-links and weights of the index"),
        frozenset({r.INDEX_MANAGER}),
    ),
    "see_feeds": Permission(
        T("查看数据汇聚与质量", "See feeds and their quality"),
        frozenset({r.INDEX_MANAGER, r.MANAGER, r.SYSTEM_ADMIN}),
    ),
    "mend_feeds": Permission(
        T("处理来件、映射与规则", "Mend feeds: replay, mappings, rules"),
        frozenset({r.INDEX_MANAGER, r.SYSTEM_ADMIN}),
    ),
    "open_message": Permission(
        T("查看消息原文", "Open the content of a message"), frozenset({r.INDEX_MANAGER})
    ),
    "find_person": Permission(
        T("查找居民", "Find a resident"),
        _CARE | {r.REFERRAL_DESK, r.RECEPTION, r.PHARMACIST, r.INDEX_MANAGER},
        client=True,
    ),
    "register_person": Permission(
        T("登记居民", "Register a resident"), _CARE | {r.REFERRAL_DESK, r.RECEPTION}, client=True
    ),
    "refer": Permission(T("发起转诊", "Refer a patient"), _CARE | {r.REFERRAL_DESK}, client=True),
    "receive": Permission(
        T("接收转诊", "Receive a referral"),
        frozenset({r.REFERRAL_DESK, r.CLINICIAN, r.GP, r.FAMILY_DOCTOR, r.VILLAGE_DOCTOR, r.WARD}),
        client=True,
    ),
    "book": Permission(T("预约号源", "Book a number"), _CARE | {r.REFERRAL_DESK, r.RECEPTION}, client=True),
    "see_pools": Permission(
        T("查看号源、床位与检查资源", "See numbers, beds and examination places"),
        _CARE | {r.REFERRAL_DESK, r.RECEPTION, r.MANAGER},
        client=True,
    ),
    "run_schedules": Permission(
        T("维护排班、停诊与号源", "Run schedules, stop clinics, set numbers"),
        frozenset({r.MANAGER, r.REFERRAL_DESK, r.RECEPTION}),
    ),
    "serve_desk": Permission(
        T("当日接诊登记", "Serve today's desk"),
        frozenset({r.RECEPTION, r.REFERRAL_DESK, r.CLINICIAN, r.GP, r.FAMILY_DOCTOR, r.VILLAGE_DOCTOR}),
    ),
    "run_beds": Permission(
        T("管理床位与手术间", "Run beds and theatres"), frozenset({r.WARD, r.REFERRAL_DESK})
    ),
    "manage_cards": Permission(
        T("办理电子健康卡", "Issue e-health cards"),
        frozenset({r.RECEPTION, r.REFERRAL_DESK, r.GP, r.FAMILY_DOCTOR, r.VILLAGE_DOCTOR}),
    ),
    "see_missed": Permission(
        T("查看爽约与申诉", "See missed visits and appeals"),
        frozenset(
            {r.RECEPTION, r.REFERRAL_DESK, r.CLINICIAN, r.GP, r.FAMILY_DOCTOR, r.VILLAGE_DOCTOR, r.MANAGER}
        ),
    ),
    "judge_appeals": Permission(
        T("处理爽约申诉", "Decide appeals against missed visits"), frozenset({r.MANAGER})
    ),
    "order_tests": Permission(T("申请检查检验", "Order examinations and tests"), _CARE, client=True),
    "see_orders": Permission(
        T("查看检查检验申请与报告", "See orders and reports"),
        _CARE | {r.REFERRAL_DESK, r.READER, r.TECHNICIAN, r.LABORATORY},
        client=True,
    ),
    "acquire": Permission(
        T("登记、采集与上传", "Check in, acquire and upload"),
        frozenset({r.TECHNICIAN, r.GP, r.FAMILY_DOCTOR, r.VILLAGE_DOCTOR, r.WARD, r.CLINICIAN}),
        client=True,
    ),
    "read_studies": Permission(
        T("书写与签发诊断报告", "Read studies and sign reports"), frozenset({r.READER})
    ),
    "run_centres": Permission(
        T("管理诊断中心", "Run a diagnosis centre"), frozenset({r.READER, r.LABORATORY, r.MANAGER})
    ),
    "reconcile_images": Permission(
        T("核对影像归属", "Reconcile images"), frozenset({r.TECHNICIAN, r.READER})
    ),
    "run_archive": Permission(
        T("维护影像归档与设备", "Run the image archive and its devices"),
        frozenset({r.TECHNICIAN, r.READER, r.SYSTEM_ADMIN}),
    ),
    "run_laboratory": Permission(T("办理检验", "Work in the laboratory"), frozenset({r.LABORATORY})),
    "handle_critical": Permission(
        T("处理危急值", "Handle critical values"),
        _CARE | {r.REFERRAL_DESK, r.READER, r.TECHNICIAN, r.LABORATORY},
        client=True,
    ),
    "see_recognition": Permission(
        T("查看结果互认", "See mutual recognition"), _CARE | {r.READER, r.LABORATORY, r.MANAGER}
    ),
    "run_recognition": Permission(
        T("维护互认项目与规则", "Keep recognised items and rules"), frozenset({r.MANAGER})
    ),
    "consult": Permission(T("远程会诊", "Teleconsultation"), _CARE | {r.REFERRAL_DESK}, client=True),
    "run_consults": Permission(
        T("管理会诊与专家", "Run consultations and experts"), frozenset({r.REFERRAL_DESK, r.MANAGER})
    ),
    "run_sterile": Permission(T("办理消毒供应", "Work in sterile supply"), frozenset({r.STERILE})),
    "use_sterile": Permission(
        T("领用与回收无菌包", "Use and return sterile sets"),
        frozenset({r.STERILE, r.WARD, r.CLINICIAN, r.GP, r.VILLAGE_DOCTOR, r.TECHNICIAN}),
    ),
    "write_care": Permission(
        T("书写诊疗记录", "Write care records"),
        _CARE | {r.PHARMACIST, r.READER, r.LABORATORY},
        client=True,
    ),
    "break_glass": Permission(
        T("紧急调阅", "Open a record in an emergency"), _CARE | {r.REFERRAL_DESK, r.PHARMACIST}
    ),
}


def permits(permission: str, roles: frozenset[str], *, client: bool = False) -> bool:
    """Whether any of ``roles`` (or a machine client) includes ``permission``; KeyError for a permission not in the table."""
    entry = PERMISSIONS[permission]
    return bool(entry.roles & roles) or (client and entry.client)


def labels(roles: frozenset[str]) -> Text:
    """Names of roles, joined, in a steady order."""
    found = [role.label for code, role in r.ROLES.items() if code in roles]
    return T("、".join(t.zh for t in found), ", ".join(t.en for t in found))


def refusal(permission: str) -> Text:
    """Why somebody without ``permission`` is refused and who to turn to."""
    entry = PERMISSIONS[permission]
    return T(
        "“{what}”由{who}办理，您当前岗位没有此权限。请切换岗位或联系上述人员。",
        "“{what}” belongs to: {who}. Your present post does not include it; switch post or ask one of them.",
    ).format(what=entry.label, who=labels(entry.roles))
