"""Code systems of the guide, made from the platform's own lists."""

from lianxin.network import kinds, roles
from lianxin.record.profiles.build import Resource, code_system
from lianxin.standards.text import Text as T

DIRECTIONS = {"up": T("上转", "To a higher level"), "down": T("下转", "To a lower level"), "across": T("平级转诊", "To the same level")}  # fmt: skip
BUSINESS = {
    "awaiting-information": T("待补充资料", "Waiting for information"),
    "awaiting-triage": T("待分诊", "Waiting for triage"),
    "awaiting-booking": T("待预约", "Waiting for an appointment"),
    "waitlisted": T("候补中", "On the waiting list"),
    "booked": T("已预约", "Booked"),
    "no-show": T("未到诊", "Did not come"),
    "arrived": T("已到诊", "Arrived"),
    "awaiting-report": T("待回转", "Waiting for the report"),
    "awaiting-acknowledgement": T("待确认", "Waiting for acknowledgement"),
    "redirected": T("已改派", "Sent on to another institution"),
    "returned": T("已退回", "Returned"),
    "cancelled": T("已取消", "Cancelled"),
    "closed": T("已结案", "Closed"),
    "closed-no-return": T("未回转结案", "Closed without a return"),
}
RECOGNITION = {
    "national": T("全国", "Nationwide"),
    "region": T("跨省区域", "Several provinces"),
    "province": T("省级", "Province"),
    "city": T("市级", "City"),
    "consortium": T("医联体内", "Within the consortium"),
}
REFUSALS = {
    "01": T("病情变化，结果与临床不符", "The condition changed"),
    "02": T("疾病发展中变化较快", "Changes fast in the course of the disease"),
    "03": T("对诊疗意义重大（手术、输血前等）", "Critical for treatment (before surgery, transfusion)"),
    "04": T("急诊、急救或重型危重", "Emergency or critical"),
    "05": T("司法、伤残、病退等鉴定", "Judicial or disability assessment"),
    "06": T("须由相应资质机构出具", "Needs an institution with that qualification"),
    "07": T("医师认为确有必要", "The physician finds it necessary"),
    "08": T("其他", "Other"),
    "98": T("未收到影像资料（不计为不互认）", "Images not received (not counted as a refusal)"),
    "99": T("连续性监测需要（不计为不互认）", "Continuous monitoring (not counted as a refusal)"),
}


def resources() -> list[Resource]:
    """Code systems, each with the value set of its codes."""
    return [
        *code_system("tier", T("机构层级", "Tier of an institution"), "The level a consortium's institution works at.", kinds.TIERS),
        *code_system("institution-kind", T("机构类别", "Kind of institution"), "What an institution is.", kinds.KINDS),
        *code_system("role", T("岗位角色", "Role of a post"), "What a person does at an institution.", {code: role.label for code, role in roles.ROLES.items()}),
        *code_system("referral-direction", T("转诊方向", "Direction of a referral"), "Up, down or across.", DIRECTIONS),
        *code_system("referral-business-status", T("转诊业务状态", "Business status of a referral"), "Where a referral stands, finer than Task.status.", BUSINESS),
        *code_system("recognition-scope", T("互认范围", "Scope of recognition"), "Where a result with the HR mark is recognised (检查检验结果互认).", RECOGNITION),
        *code_system("recognition-refusal", T("不互认原因", "Reason for not recognising"), "Why an examination was repeated although a recognised result was there.", REFUSALS),
    ]  # fmt: skip
