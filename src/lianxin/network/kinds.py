"""The closed lists of the network, with their names in both languages. Database CHECKs are made from them."""

from __future__ import annotations

from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "hospital": T("综合医院", "General hospital"),
    "tcm_hospital": T("中医医院", "TCM hospital"),
    "maternal": T("妇幼保健院", "Maternal and child hospital"),
    "township": T("乡镇卫生院", "Township health centre"),
    "community": T("社区卫生服务中心", "Community health centre"),
    "village": T("村卫生室", "Village clinic"),
    "cdc": T("疾病预防控制中心", "Centre for disease control"),
    "other": T("其他机构", "Other institution"),
}
TIERS: dict[str, Text] = {
    "village": T("村级", "Village"),
    "township": T("乡级", "Township"),
    "county": T("县级", "County"),
    "city": T("市级", "City"),
    "province": T("省级", "Province"),
}
TIER_ORDER: tuple[str, ...] = tuple(TIERS)
OWNERSHIPS: dict[str, Text] = {
    "public": T("公立", "Public"),
    "private": T("民营", "Private"),
    "other": T("其他", "Other"),
}
FORMS: dict[str, Text] = {
    "city_group": T("城市医疗集团", "City medical group"),
    "county_community": T("县域医共体", "County medical community"),
    "specialist_alliance": T("专科联盟", "Specialist alliance"),
    "remote_network": T("远程医疗协作网", "Remote medicine network"),
}
MEMBER_ROLES: dict[str, Text] = {
    "lead": T("牵头单位", "Lead"),
    "branch": T("分院", "Branch"),
    "member": T("成员单位", "Member"),
}
CAPABILITIES: dict[str, Text] = {
    "specialty": T("专科", "Specialty"),
    "device": T("设备", "Device"),
    "procedure": T("技术项目", "Procedure"),
    "disease": T("病种", "Disease"),
}
AGREEMENTS: dict[str, Text] = {
    "referral": T("双向转诊协议", "Two-way referral"),
    "remote": T("远程协作协议", "Remote cooperation"),
    "alliance": T("专科联盟协议", "Specialist alliance"),
    "deployment": T("人员派驻协议", "Staff deployment"),
    "sharing": T("数据共享协议", "Data sharing"),
    "other": T("其他协议", "Other"),
}
SEXES: dict[str, Text] = {
    "male": T("男", "Male"),
    "female": T("女", "Female"),
    "other": T("其他", "Other"),
    "unknown": T("未知", "Unknown"),
}
TITLES: dict[str, str] = {
    "主任医师": "Chief physician",
    "副主任医师": "Associate chief physician",
    "主治医师": "Attending physician",
    "住院医师": "Resident physician",
    "医师": "Physician",
    "助理医师": "Assistant physician",
    "全科医师": "General practitioner",
    "乡村医生": "Village doctor",
    "执业药师": "Licensed pharmacist",
    "主任药师": "Chief pharmacist",
    "主管药师": "Pharmacist in charge",
    "药师": "Pharmacist",
    "主任护师": "Chief nurse",
    "副主任护师": "Associate chief nurse",
    "主管护师": "Nurse in charge",
    "护师": "Senior nurse",
    "护士": "Nurse",
    "主管技师": "Technician in charge",
    "技师": "Technician",
    "工程师": "Engineer",
    "会计师": "Accountant",
}


def title(name: str) -> Text:
    """A professional title in both languages; one that is not in the list stands as written."""
    return T(name, TITLES.get(name, name))
