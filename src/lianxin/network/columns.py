"""The columns of the network's spreadsheets, with the explanation shown under each heading."""

from __future__ import annotations

from lianxin.network import kinds, roles
from lianxin.standards.tables import Column
from lianxin.standards.text import T, Text


def _values(values: dict[str, Text]) -> Text:
    """“hospital 综合医院、…”: the allowed values in both languages."""
    return Text(
        "可填：" + "、".join(f"{label.zh}" for label in values.values()),
        "One of: " + ", ".join(values),
    )


_ROLES = {code: role.label for code, role in roles.ROLES.items() if code != roles.RESIDENT}
_CODE = T(
    "字母、数字和短横，最多40位；按此代码更新",
    "letters, digits and hyphens, up to 40; rows are matched by it",
)

INSTITUTIONS = (
    Column("code", T("机构代码", "Code"), _CODE, required=True, example="TT-RMYY"),
    Column("name", T("机构名称", "Name"), T("登记证书上的全称", "full name as registered"), required=True,
           example="天台县人民医院"),
    Column("short_name", T("简称", "Short name"), T("界面上使用", "used on screens"), example="县人民医院"),
    Column("name_en", T("英文名称", "English name"), T("可空", "optional"), example="Tiantai People's Hospital"),
    Column("kind", T("机构类别", "Kind"), _values(kinds.KINDS), required=True, example="综合医院"),
    Column("tier", T("机构层级", "Tier"), _values(kinds.TIERS), example="县级"),
    Column("level", T("医院等级", "Level"), T("如 三级乙等", "such as 三级乙等"), example="三级乙等"),
    Column("ownership", T("所有制", "Ownership"), _values(kinds.OWNERSHIPS), example="公立"),
    Column("division", T("行政区划代码", "Division"), T("GB/T 2260 六位代码", "six digits of GB/T 2260"),
           example="331023"),
    Column("uscc", T("统一社会信用代码", "Unified social credit code"), T("18位，校验", "18 characters, checked"),
           aliases=("信用代码",), example="12331023472000000X"),
    Column("parent", T("上级机构代码", "Parent code"),
           T("村卫生室必填其乡镇卫生院或社区卫生服务中心", "a village clinic gives its township or community centre"),
           aliases=("上级机构",), example="TT-BH"),
    Column("lon", T("经度", "Longitude"), T("度，与纬度同填", "degrees, together with the latitude"), kind="number",
           example="121.034"),
    Column("lat", T("纬度", "Latitude"), T("度", "degrees"), kind="number", example="29.141"),
    Column("address", T("地址", "Address"), T("可空", "optional")),
    Column("phone", T("电话", "Telephone"), T("文本格式", "as text"), example="0576-83880000"),
    Column("active", T("启用", "Active"), T("是或否，空为是", "yes or no; empty is yes"), example="是"),
)  # fmt: skip

DEPARTMENTS = (
    Column("institution", T("机构代码", "Institution code"), T("须已存在", "must exist"), required=True,
           aliases=("机构",), example="TT-RMYY"),
    Column("code", T("科室代码", "Code"), T("在本机构内唯一", "unique within the institution"), required=True,
           example="XNK"),
    Column("name", T("科室名称", "Name"), T("全称", "full name"), required=True, example="心血管内科"),
    Column("name_en", T("英文名称", "English name"), T("可空", "optional"), example="Cardiology"),
    Column("specialty", T("诊疗科目", "Specialty"), T("诊疗科目代码或名称", "specialty code or Chinese name"),
           example="03.04"),
    Column("active", T("启用", "Active"), T("是或否，空为是", "yes or no; empty is yes"), example="是"),
)  # fmt: skip

PEOPLE = (
    Column("code", T("人员代码", "Code"), _CODE, required=True, example="TT-P0001"),
    Column("name", T("姓名", "Name"), T("一人多岗时每岗一行", "one row for each post of a person"), required=True,
           example="单明远"),
    Column("name_en", T("英文姓名", "English name"), T("可空", "optional"), example="Shan Mingyuan"),
    Column("sex", T("性别", "Sex"), _values(kinds.SEXES), example="男"),
    Column("licence_no", T("执业证书编号", "Licence number"), T("文本格式，唯一", "as text, unique"),
           aliases=("执业证号",), example="110330000000001"),
    Column("title", T("职称", "Title"), T("如 主任医师", "such as 主任医师"), example="主任医师"),
    Column("phone", T("电话", "Telephone"), T("文本格式", "as text"), example="0576-83880001"),
    Column("institution", T("机构代码", "Institution code"), T("任职机构", "where the post is"), aliases=("机构",),
           example="TT-RMYY"),
    Column("department", T("科室代码", "Department code"), T("该机构的科室，可空", "of that institution, optional"),
           aliases=("科室",), example="XNK"),
    Column("role", T("岗位", "Role"), _values(_ROLES), example="专科医生"),
    Column("since", T("任职开始", "Since"), T("空为今天", "empty is today"), kind="date", example="2020-01-01"),
    Column("until", T("任职结束", "Until"), T("空为在任", "empty while held"), kind="date"),
)  # fmt: skip

KINDS: dict[str, tuple[Text, tuple[Column, ...]]] = {
    "institutions": (T("机构", "Institutions"), INSTITUTIONS),
    "departments": (T("科室", "Departments"), DEPARTMENTS),
    "people": (T("人员与岗位", "People and posts"), PEOPLE),
}
