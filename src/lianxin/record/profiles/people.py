"""Profiles of people and institutions: identifiers with their check digits, Chinese names and their pinyin."""

from collections.abc import Iterable

from lianxin.record.profiles.build import (
    CORE,
    CS,
    ID,
    Resource,
    bound,
    by_value,
    element,
    profile,
    reference,
    rule,
)
from lianxin.standards.text import Text as T

REPRESENTATION = CORE + "iso21090-EN-representation"
ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100-2015: no I, O, S, V, Z
CODE_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
CARD, HEALTH_CARD, MRN = f"{ID}resident-id-card", f"{ID}health-card", f"{ID}mrn/"


def _sum(weights: tuple[int, ...], digit: str) -> str:
    return " + ".join(f"{digit.format(i)} * {weight}" for i, weight in enumerate(weights))


def resident_id(value: str = "value") -> str:
    """FHIRPath: an 18-character resident identity number whose check digit is right (ISO 7064 MOD 11-2)."""
    total = _sum(ID_WEIGHTS, "substring({}, 1).toInteger()")
    return (
        f"{value}.matches('^[1-9][0-9]{{16}}[0-9X]$') and "
        f"{value}.select('10X98765432'.substring(({total}) mod 11, 1) = substring(17, 1))"
    )


def credit_code(value: str = "value") -> str:
    """FHIRPath: a unified social credit code whose check character is right (GB 32100)."""
    total = _sum(CODE_WEIGHTS, f"'{ALPHABET}'.indexOf($this.substring({{}}, 1))")
    return (
        f"{value}.matches('^[{ALPHABET}]{{18}}$') and "
        f"{value}.select('{ALPHABET}'.substring((31 - ({total}) mod 31) mod 31, 1) = substring(17, 1))"
    )


def checked_number(value: str = "value") -> str:
    """FHIRPath: digits that end in their ISO 7064 MOD 11,10 check digit."""
    step = "iif(($total + $this.toInteger()) mod 10 = 0, 10, ($total + $this.toInteger()) mod 10) * 2 mod 11"
    return (
        f"{value}.matches('^[0-9]{{2,20}}$') and {value}.select("
        f"(11 - substring(0, length() - 1).toChars().aggregate({step}, 10)) mod 10 = substring(length() - 1, 1).toInteger())"
    )


def identifier(
    rtype: str, slice_name: str, system: str, short: str, *, max: str = "*", rules: Iterable[Resource] = ()
) -> list[Resource]:
    """An identifier slice: its system, and a value that must be there."""
    at = f"{rtype}.identifier:{slice_name}"
    return [
        element(at, short=short, mustSupport=True, max=max),
        element(f"{at}.system", min=1, fixedUri=system),
        element(f"{at}.value", min=1, rules=rules),
    ]


def patient() -> Resource:
    """A person who receives care."""
    name_rules = [
        rule("lx-name-1", "text.exists() or family.exists()", "A name has its text or its family name", "姓名须有全名（text）或姓（family）"),
    ]  # fmt: skip
    return profile(
        "patient",
        "Patient",
        T("患者", "Patient"),
        "Identifiers 居民身份证, 健康卡 and 病案号 with check digits; Chinese name with family and given parts; pinyin as a second name.",
        [
            element("Patient.identifier", min=1, slicing=by_value("system"), mustSupport=True, rules=[
                rule("lx-mrn-1", f"system.startsWith('{MRN}') implies value.exists()", "A record number has its value", "病案号须有取值"),
                rule("lx-mrn-2", "type.coding.where(system = 'http://terminology.hl7.org/CodeSystem/v2-0203' and code = 'MR').exists() implies (system.exists() or assigner.exists())", "A record number says whose it is: its system or its assigner", "病案号须注明所属机构（system 或 assigner）"),
            ]),
            *identifier("Patient", "card", CARD, "居民身份证", max="1", rules=[
                rule("lx-id-1", resident_id("$this"), "A resident identity number has 18 characters and the right check digit (GB 11643)", "居民身份证号应为 18 位且校验码正确（GB 11643）"),
            ]),
            *identifier("Patient", "healthCard", HEALTH_CARD, "电子健康卡", rules=[
                rule("lx-id-2", checked_number("$this"), "A health card number ends in its check digit", "健康卡号的校验位应正确"),
            ]),
            element("Patient.name", min=1, mustSupport=True, slicing=by_value(f"extension('{REPRESENTATION}').value"), rules=name_rules),
            element("Patient.name:chinese", short="中文姓名", max="1"),
            element("Patient.name:chinese.extension", slicing=by_value("url")),
            element("Patient.name:chinese.extension:representation", min=1, max="1", type=[{"code": "Extension", "profile": [REPRESENTATION]}]),
            element("Patient.name:chinese.extension:representation.url", fixedUri=REPRESENTATION),
            element("Patient.name:chinese.extension:representation.value[x]", fixedCode="IDE"),
            element("Patient.name:pinyin", short="姓名拼音"),
            element("Patient.name:pinyin.extension", slicing=by_value("url")),
            element("Patient.name:pinyin.extension:representation", min=1, max="1", type=[{"code": "Extension", "profile": [REPRESENTATION]}]),
            element("Patient.name:pinyin.extension:representation.url", fixedUri=REPRESENTATION),
            element("Patient.name:pinyin.extension:representation.value[x]", fixedCode="SYL"),
            element("Patient.name:pinyin.text", rules=[
                rule("lx-name-2", "matches('^[A-Za-züÜ0-9 ·\\'-]+$')", "Pinyin is written in Latin letters", "拼音应为拉丁字母"),
            ]),
            element("Patient.gender", min=1, mustSupport=True),
            element("Patient.birthDate", mustSupport=True),
            element("Patient.managingOrganization", type=reference("Organization")),
            element("Patient", rules=[
                rule("lx-pat-1", f"birthDate.empty() or birthDate.toString().length() < 10 or identifier.where(system = '{CARD}').value.all(substring(6, 8) = %resource.birthDate.toString().replace('-', ''))", "The birth date is the one in the identity number", "出生日期应与身份证号一致", "warning"),
                rule("lx-pat-2", f"gender.empty() or identifier.where(system = '{CARD}').value.all(iif(substring(16, 1).toInteger() mod 2 = 1, 'male', 'female') = %resource.gender)", "The sex is the one in the identity number", "性别应与身份证号一致", "warning"),
            ]),
        ],
    )  # fmt: skip


def organization() -> Resource:
    """An institution."""
    return profile(
        "organization",
        "Organization",
        T("机构", "Institution"),
        "Institution code and 统一社会信用代码; kind and tier as types.",
        [
            element("Organization.identifier", min=1, slicing=by_value("system"), mustSupport=True),
            *identifier("Organization", "institution", f"{ID}institution", "机构代码", max="1"),
            *identifier("Organization", "uscc", f"{ID}uscc", "统一社会信用代码", max="1", rules=[
                rule("lx-org-1", credit_code("$this"), "A unified social credit code has 18 characters and the right check character (GB 32100)", "统一社会信用代码应为 18 位且校验码正确（GB 32100）"),
            ]),
            element("Organization.type", slicing=by_value("coding.system"), mustSupport=True),
            element("Organization.type:kind", max="1", binding=bound("institution-kind")),
            element("Organization.type:kind.coding.system", min=1, fixedUri=f"{CS}institution-kind"),
            element("Organization.type:tier", max="1", binding=bound("tier")),
            element("Organization.type:tier.coding.system", min=1, fixedUri=f"{CS}tier"),
            element("Organization.name", min=1, mustSupport=True),
            element("Organization.partOf", type=reference("Organization")),
        ],
    )  # fmt: skip


def practitioner() -> Resource:
    """A person who works at an institution."""
    return profile(
        "practitioner",
        "Practitioner",
        T("医务人员", "Practitioner"),
        "Number within the consortium and licence number (执业证书编码).",
        [
            element("Practitioner.identifier", min=1, slicing=by_value("system"), mustSupport=True),
            *identifier("Practitioner", "number", f"{ID}practitioner", "人员编号", max="1"),
            *identifier("Practitioner", "licence", f"{ID}licence", "执业证书编码", max="1"),
            element("Practitioner.name", min=1, mustSupport=True, rules=[
                rule("lx-name-1", "text.exists() or family.exists()", "A name has its text or its family name", "姓名须有全名（text）或姓（family）"),
            ]),
        ],
    )  # fmt: skip


def role() -> Resource:
    """A post."""
    return profile(
        "practitioner-role",
        "PractitionerRole",
        T("岗位", "Post"),
        "Who works where, in which role.",
        [
            element("PractitionerRole.practitioner", min=1, type=reference("Practitioner")),
            element("PractitionerRole.organization", min=1, type=reference("Organization")),
            element("PractitionerRole.code", min=1, slicing=by_value("coding.system")),
            element("PractitionerRole.code:role", min=1, max="1", binding=bound("role")),
            element("PractitionerRole.code:role.coding.system", min=1, fixedUri=f"{CS}role"),
        ],
    )


def resources() -> list[Resource]:
    """Profiles of people and institutions."""
    return [patient(), organization(), practitioner(), role()]
