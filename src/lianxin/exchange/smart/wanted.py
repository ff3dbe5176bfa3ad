"""Which of the scopes a client asks for it gets, and what they say in words."""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.access import smart
from lianxin.access.models import Client
from lianxin.exchange.smart.errors import OAuthError
from lianxin.record import visible
from lianxin.record.definitions import types
from lianxin.standards.text import T, Text

FREE = ("openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter")
"""Identity and context: every app may ask for them, since they open nothing by themselves."""

REFRESH = ("offline_access", "online_access")


def of_backend(client: Client, text: str) -> tuple[str, ...]:
    """Scopes of a token of a backend; raises OAuthError invalid_scope when nothing is left."""
    if not text.strip():
        raise OAuthError("invalid_scope", "scope must be given, such as system/*.rs")
    asked = [part for part in text.split() if _sound(part, ("system",))]
    return _given(tuple(asked), tuple(client.scope.split()), text)


def of_app(client: Client, text: str) -> tuple[str, ...]:
    """Scopes an app may be granted, before the person chooses; words that mean nothing here are left out."""
    asked = [part for part in text.split() if part in smart.CONTEXT or _sound(part, ("patient", "user"))]
    return _given(tuple(asked), (*FREE, *client.scope.split()), text)


def _sound(part: str, levels: tuple[str, ...]) -> bool:
    found = smart.understood(part)
    if found is None or found[1].level not in levels:
        return False
    one = found[1]
    return (one.rtype == "*" or one.rtype in types()) and all(
        visible.limitable(one.rtype, name, value) for name, value in one.query
    )


def _given(asked: tuple[str, ...], allowed: tuple[str, ...], text: str) -> tuple[str, ...]:
    given = smart.narrowed(asked, allowed)
    if not any(smart.understood(part) for part in given) and "openid" not in given:
        raise OAuthError(
            "invalid_scope",
            f"none of the scopes asked for ({ascii(text[:200])[1:-1]}) may be given to this client; it may have: "
            + (" ".join(allowed) or "none"),
        )
    return given


# -------------------------------------------------------------------------------------------------------------- in words

_DOES = {
    "r": T("查看", "read"),
    "s": T("检索", "search"),
    "c": T("新增", "add"),
    "u": T("修改", "change"),
    "d": T("删除", "delete"),
}
_NAMES: dict[str, Text] = {
    "*": T("全部健康记录", "the whole health record"),
    "Patient": T("基本信息（姓名、证件、联系方式）", "identity (name, documents, contacts)"),
    "Observation": T("检验检查结果与生命体征", "results and vital signs"),
    "Condition": T("诊断与健康问题", "diagnoses and problems"),
    "AllergyIntolerance": T("过敏", "allergies"),
    "Encounter": T("就诊", "visits"),
    "MedicationRequest": T("处方", "prescriptions"),
    "MedicationStatement": T("用药", "medicines taken"),
    "Procedure": T("手术与操作", "procedures"),
    "Immunization": T("预防接种", "vaccinations"),
    "DiagnosticReport": T("检查检验报告", "reports"),
    "DocumentReference": T("文书", "documents"),
    "Composition": T("文书", "documents"),
    "ServiceRequest": T("申请与转诊", "requests and referrals"),
    "Appointment": T("预约", "appointments"),
    "CarePlan": T("照护计划", "care plans"),
    "Coverage": T("医保", "insurance"),
    "Practitioner": T("医务人员", "staff"),
    "Organization": T("机构", "institutions"),
}
_CONTEXT: dict[str, Text] = {
    "openid": T("知道您是谁", "know who you are"),
    "offline_access": T("您离开后继续访问，最长 90 天", "keep access after you leave, 90 days at most"),
    "online_access": T("在您登录期间持续访问", "keep access while you are signed in"),
}


@dataclass(frozen=True)
class Line:
    """One scope on the consent page; ``optional`` ones may be left out by the person."""

    scope: str
    words: Text
    writes: bool
    optional: bool


def lines(scopes: tuple[str, ...]) -> list[Line]:
    """The scopes of an authorization as a person reads them."""
    found = []
    for part in scopes:
        if part in _CONTEXT:
            found.append(Line(part, _CONTEXT[part], False, part in REFRESH))
            continue
        meaning = smart.understood(part)
        if meaning is None:
            continue
        one = meaning[1]
        name = _NAMES.get(one.rtype) or Text(one.rtype, one.rtype)
        does = [_DOES[x] for x in one.letters]
        where = (
            T("（仅该患者）", " (this patient only)")
            if one.level == "patient"
            else T("（您有权查看的所有患者）", " (all patients you may see)")
        )
        limit = "，".join(f"{n} = {v.rpartition('|')[2]}" for n, v in one.query)
        words = Text(
            "、".join(d.zh for d in does) + name.zh + where.zh + (f"，限 {limit}" if limit else ""),
            ", ".join(d.en for d in does) + " " + name.en + where.en + (f", only {limit}" if limit else ""),
        )
        found.append(Line(part, words, not set(one.letters).isdisjoint("cud"), True))
    return found
