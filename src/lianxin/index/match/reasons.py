"""What people read about a decision: every level, every kind of review and every code of a waterfall, in two languages."""

from __future__ import annotations

from lianxin.index.match import levels
from lianxin.standards.text import T, Text

REVIEWS: dict[str, Text] = {
    "same_id": T("证件号或卡号相同，其他信息不符", "Same number, but something else does not fit"),
    "id_typo": T("证件号疑似录入错误", "An identity number that looks mistyped"),
    "same_sound": T("姓名同音或近音", "Names that sound alike"),
    "look_alike": T("多项信息相近，不足以自动关联", "Much alike, not enough to link by itself"),
    "two_matches": T("同时符合两个人", "Fits two persons"),
    "newborn": T("新生儿暂用名与正式姓名", "A newborn's provisional name"),
    "household": T("可能是同一家庭的另一人", "May be another member of one household"),
    "guardian": T(
        "同名同住址而出生相差一代，可能登记了监护人证件",
        "Same name and home, a generation apart: a guardian's card may have been used",
    ),
    "two_numbers": T(
        "姓名、出生日期、住址相同而证件号不同，其一可能是亲属的",
        "Same name, birth date and home but two numbers: one may be a relative's",
    ),
    "lunar": T("出生日期可能一为农历", "One birth date may be by the lunar calendar"),
    "renamed": T("姓名不同，可能改名", "Another name: may have been renamed"),
    "contradiction": T("与此人的另一条登记矛盾", "Contradicts another registration of the person"),
    "link_lost": T("更新后与原关联的人不再相符", "No longer fits the person after an update"),
    "id_changed": T("更新后证件号改变", "The identity number changed by an update"),
}
"""Kinds of review: why a pair is shown to a person."""

GRADES: dict[str, Text] = {
    "certain": T("确定", "Certain"),
    "probable": T("很可能", "Probable"),
    "possible": T("有可能", "Possible"),
    "certainly-not": T("确定不是", "Certainly not"),
}
"""FHIR match grades."""

_OTHERS: dict[str, Text] = {
    "prior": T("起点：人口中任取两条登记", "Start: any two registrations of the population"),
    "household": T("同住者共有的信息合计封顶", "What a household shares counts no more than this"),
}


def review(kind: str) -> Text:
    """Title of a review kind; raises KeyError for one that nobody defined."""
    return REVIEWS[kind]


def part(field: str, code: str) -> Text:
    """One line of a waterfall: (field, level code) of :func:`lianxin.index.match.score.parts`."""
    if field in _OTHERS:
        return _OTHERS[field]
    return levels.title(field, levels.number(field, code))


def field(name: str) -> Text:
    """Title of a field of the waterfall."""
    return _OTHERS[name] if name in _OTHERS else levels.TITLES[name]


def reason(text: str) -> Text:
    """A reason of a decision as it is kept: "field.code"."""
    name, _, code = text.partition(".")
    return part(name, code)
