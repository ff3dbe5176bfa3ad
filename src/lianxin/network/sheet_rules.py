"""What a row of a network sheet must say, and the plan of writes that follows. Reads the database, writes nothing."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from lianxin.network import kinds, roles
from lianxin.network.models import CODE_PATTERN, Department, Institution, Post, Practitioner
from lianxin.standards import clock, codes, identifiers, tables
from lianxin.standards.tables import Problem, Row, Table
from lianxin.standards.text import T, Text

_TIER_OF = {"village": "village", "township": "township", "community": "township"}


@dataclass
class Wave:
    """Rows of one model written together: those without a key are created, the others updated in ``fields``."""

    model: type[models.Model]
    rows: list[Any]
    fields: list[str]
    links: tuple[str, ...] = ()


@dataclass
class Plan:
    """Waves in the order they must be written."""

    waves: list[Wave] = field(default_factory=list)
    unchanged: int = 0


class Checker:
    """Collects problems of one sheet and reads its cells."""

    def __init__(self, table: Table, problems: list[Problem]) -> None:
        self.table = table
        self.problems = problems

    def has(self, name: str) -> bool:
        """True when the file has this column."""
        return name in self.table.headings

    def wrong(self, row: Row, name: str, message: Text) -> None:
        """Note a problem."""
        self.problems.append(Problem(row.number, name, message))

    def code(self, row: Row, name: str = "code") -> str:
        """A code of our own form, or "" with a problem noted."""
        text = str(row[name] or "").strip()
        if not text:
            self.required(row, name)
        elif not re.fullmatch(CODE_PATTERN, text, re.ASCII):
            self.wrong(
                row, name,
                T("“{v}”不是有效代码，只用字母、数字和短横，最多40位。",
                  "“{v}” is no valid code: letters, digits and hyphens only, up to 40.").format(v=text),
            )  # fmt: skip
            return ""
        return text

    def required(self, row: Row, name: str) -> None:
        """Note that a required cell is empty (once)."""
        if not any(p.row == row.number and p.field == name for p in self.problems):
            self.wrong(row, name, T("必填，请填写。", "Required; fill it in."))

    def text(self, row: Row, name: str, model: type[models.Model], required: bool = False) -> str:
        """A text that fits the model's field."""
        value = str(row[name] if row[name] is not None else "").strip()
        if required and not value:
            self.required(row, name)
        longest = getattr(model._meta.get_field(name), "max_length", None) or 0
        if len(value) > longest:
            self.wrong(
                row,
                name,
                T("超过{n}个字符，请缩短。", "Longer than {n} characters; shorten it.").format(n=longest),
            )
        return value

    def one_of(self, row: Row, name: str, values: dict[str, Text], default: str = "") -> str:
        """A value of a closed list, given by code or by its Chinese or English name."""
        raw = str(row[name] or "").strip()
        if not raw:
            if not default:
                self.required(row, name)
            return default
        for code, label in values.items():
            if raw.lower() in (code, label.zh, label.en.lower()):
                return code
        self.wrong(
            row, name,
            Text(f"“{raw}”不在可填范围内，可填：" + "、".join(v.zh for v in values.values()) + "。",
                 f"“{raw}” is not one of: " + ", ".join(values) + "."),
        )  # fmt: skip
        return default or next(iter(values))

    def truth(self, row: Row, name: str) -> bool:
        """是 or 否; empty is yes."""
        raw = row[name]
        if isinstance(raw, bool):
            return raw
        value = tables.truth(str(raw)) if raw not in ("", None) else True
        if value is None:
            self.wrong(row, name, T("请填“是”或“否”。", "Give yes or no."))
        return value is not False


def _once(check: Checker, row: Row, key: Any, seen: dict[Any, int], name: str = "code") -> bool:
    if key in seen:
        check.wrong(
            row,
            name,
            T("与第{n}行重复，请删除其一。", "Stands in row {n} already; delete one.").format(n=seen[key]),
        )
        return False
    seen[key] = row.number
    return True


def _same(a: Any, b: Any) -> bool:
    """Equal; positions to a centimetre, because spreadsheets keep 15 digits."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, abs_tol=1e-7)
    return bool(a == b)


def _apply(plan: Plan, wave: Wave, row: Any, values: dict[str, Any]) -> Any:
    """Put the values on the row (held or new), and the row into the wave when it is new or anything differs."""
    changed = row.pk is None or any(not _same(getattr(row, k), v) for k, v in values.items())
    for key, value in values.items():
        setattr(row, key, value)
    if hasattr(row, "set_pinyin"):
        row.set_pinyin()
    if changed:
        wave.rows.append(row)
    else:
        plan.unchanged += 1
    return row


# ---- institutions ---------------------------------------------------------------------------------------------------


def institutions(table: Table, problems: list[Problem], within: frozenset[int] | None = None) -> Plan:
    """Plan of writes for the sheet of institutions; parents may stand anywhere in the file."""
    check, plan = Checker(table, problems), Plan()
    wanted = {str(r["code"]).strip() for r in table.rows} | {
        str(r["parent"] or "").strip() for r in table.rows
    }
    held = {i.code: i for i in Institution.objects.filter(code__in=wanted).select_related("parent")}
    usccs: dict[str | None, str] = dict(
        Institution.objects.filter(uscc__in=[str(r["uscc"]).strip().upper() for r in table.rows if r["uscc"]])
        .values_list("uscc", "code")
    )  # fmt: skip
    seen: dict[Any, int] = {}
    given: list[tuple[Row, str, dict[str, Any]]] = []
    for row in table.rows:
        code = check.code(row)
        if not code or not _once(check, row, code, seen):
            continue
        if within is not None and (code not in held or held[code].pk not in within):
            check.wrong(row, "code", T("您无权维护该机构。", "You may not maintain this institution."))
        given.append((row, code, _institution_values(check, row, code, seen, usccs)))
    rows: dict[str, Institution] = {}
    depth = _depths(check, given, held)
    for level in sorted(set(depth.values())):
        wave = Wave(Institution, [], [], links=("parent",))
        for row, code, values in given:
            if depth.get(code) != level:
                continue
            if check.has("parent"):
                above = str(row["parent"] or "").strip()
                values["parent"] = rows.get(above) or held.get(above) if above else None
                _parent_fits(check, row, values, above)
            elif values["kind"] == "village" and (code not in held or held[code].parent is None):
                _parent_fits(check, row, values, "")
            rows[code] = _apply(plan, wave, held.get(code) or Institution(code=code), values)
            wave.fields = sorted({*values, "pinyin", "initials"})
        plan.waves.append(wave)
    return plan


def _institution_values(
    check: Checker, row: Row, code: str, seen: dict[Any, int], usccs: dict[str | None, str]
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": check.text(row, "name", Institution, required=True),
        "kind": check.one_of(row, "kind", kinds.KINDS),
    }
    for name in ("short_name", "name_en", "level", "address", "phone"):
        if check.has(name):
            values[name] = check.text(row, name, Institution)
    values["tier"] = check.one_of(row, "tier", kinds.TIERS, _TIER_OF.get(values["kind"], "county"))
    if check.has("ownership"):
        values["ownership"] = check.one_of(row, "ownership", kinds.OWNERSHIPS, "public")
    if check.has("active"):
        values["active"] = check.truth(row, "active")
    if check.has("division"):
        values["division"] = str(row["division"] or "").strip()
        if not re.fullmatch(r"([0-9]{6})?", values["division"]):
            check.wrong(row, "division", T("应为六位行政区划代码。", "Give the six digits of the division."))
    if check.has("uscc"):
        values["uscc"] = _uscc(check, row, code, seen, usccs)
    if check.has("lon") or check.has("lat"):
        values |= _position(check, row)
    return values


def _uscc(
    check: Checker, row: Row, code: str, seen: dict[Any, int], usccs: dict[str | None, str]
) -> str | None:
    raw = str(row["uscc"] or "").strip()
    if not raw:
        return None
    try:
        number = identifiers.uscc(raw).number
    except identifiers.IdentifierError as error:
        check.wrong(row, "uscc", error.message)
        return None
    _once(check, row, ("uscc", number), seen, "uscc")
    if usccs.get(number, code) != code:
        check.wrong(
            row, "uscc",
            T("该信用代码已属于机构{c}。", "This credit code belongs to institution {c}.").format(c=usccs[number]),
        )  # fmt: skip
    return number


def _position(check: Checker, row: Row) -> dict[str, float | None]:
    lon, lat = row["lon"], row["lat"]
    lon, lat = (None if lon == "" else lon), (None if lat == "" else lat)
    if (lon is None) != (lat is None):
        check.wrong(row, "lon", T("经度与纬度须同时填写。", "Give longitude and latitude together."))
    elif lon is not None and lat is not None and not (-180 <= float(lon) <= 180 and -90 <= float(lat) <= 90):
        check.wrong(row, "lon", T("经纬度超出范围。", "Longitude or latitude is out of range."))
    return {"lon": lon, "lat": lat}


def _depths(
    check: Checker, given: list[tuple[Row, str, dict[str, Any]]], held: dict[str, Institution]
) -> dict[str, int]:
    """How deep below other rows of the file each row hangs; unknown parents and rings are problems."""
    above = {code: str(row["parent"] or "").strip() for row, code, _ in given} if check.has("parent") else {}
    depth: dict[str, int] = {}
    for row, code, _ in given:
        parent, path = above.get(code, ""), [code]
        if parent and parent not in above and parent not in held:
            check.wrong(
                row, "parent",
                T("上级机构{p}不存在，请先建立或更正。", "There is no institution {p}; create it first or correct the code.")
                .format(p=parent),
            )  # fmt: skip
        while parent in above:
            if parent in path:
                check.wrong(
                    row, "parent", T("上级关系成环，请更正。", "The parents form a ring; correct them.")
                )
                break
            path.append(parent)
            parent = above[parent]
        depth[code] = len(path) - 1
    return depth


def _parent_fits(check: Checker, row: Row, values: dict[str, Any], above: str) -> None:
    parent: Institution | None = values.get("parent")
    if values["kind"] == "village" and (
        not above or (parent and parent.kind not in ("township", "community"))
    ):
        check.wrong(
            row, "parent",
            T("村卫生室须填写其乡镇卫生院或社区卫生服务中心的代码。",
              "A village clinic gives the code of its township or community centre."),
        )  # fmt: skip
    elif parent and parent.kind == "village":
        check.wrong(row, "parent", T("村卫生室不能作为上级机构。", "A village clinic cannot be a parent."))


# ---- departments ----------------------------------------------------------------------------------------------------


def _known_institutions(
    check: Checker, table: Table, within: frozenset[int] | None
) -> Callable[[Row], Institution | None]:
    found = {
        i.code: i
        for i in Institution.objects.filter(
            code__in={str(r["institution"] or "").strip() for r in table.rows}
        )
    }

    def get(row: Row) -> Institution | None:
        code = str(row["institution"] or "").strip()
        inst = found.get(code)
        if not code:
            check.required(row, "institution")
        elif inst is None:
            check.wrong(
                row, "institution",
                T("机构{c}不存在，请先导入机构。", "There is no institution {c}; import institutions first.").format(c=code),
            )  # fmt: skip
        elif within is not None and inst.pk not in within:
            check.wrong(row, "institution", T("您无权维护该机构。", "You may not maintain this institution."))
        return inst

    return get


def departments(table: Table, problems: list[Problem], within: frozenset[int] | None = None) -> Plan:
    """Plan of writes for the sheet of departments."""
    check = Checker(table, problems)
    institution_of = _known_institutions(check, table, within)
    specialty_codes = {c.code: c for c in codes.concepts(codes.SPECIALTY)}
    by_name = {c.display: c.code for c in specialty_codes.values()}
    inst_codes = {str(r["institution"] or "").strip() for r in table.rows}
    held = {
        (d.institution.code, d.code): d
        for d in Department.objects.filter(institution__code__in=inst_codes).select_related("institution")
    }
    seen: dict[Any, int] = {}
    wave = Wave(Department, [], [])
    plan = Plan([wave])
    for row in table.rows:
        inst, code = institution_of(row), check.code(row)
        values: dict[str, Any] = {"name": check.text(row, "name", Department, required=True)}
        if check.has("name_en"):
            values["name_en"] = check.text(row, "name_en", Department)
        if check.has("active"):
            values["active"] = check.truth(row, "active")
        if check.has("specialty"):
            raw = str(row["specialty"] or "").strip()
            values["specialty"] = by_name.get(raw, raw)
            if raw and specialty_codes and values["specialty"] not in specialty_codes:
                check.wrong(
                    row, "specialty",
                    T("“{v}”不是诊疗科目代码或名称(代码须为文本，如 03.04)。",
                      "“{v}” is no specialty code or name (codes are text, e.g. 03.04).").format(v=raw),
                )  # fmt: skip
        if inst is None or not code or not _once(check, row, (inst.code, code), seen):
            continue
        _apply(plan, wave, held.get((inst.code, code)) or Department(institution=inst, code=code), values)
        wave.fields = sorted({*values, "pinyin", "initials"})
    return plan


# ---- people and posts -----------------------------------------------------------------------------------------------


def people(table: Table, problems: list[Problem], within: frozenset[int] | None = None) -> Plan:
    """Plan of writes for the sheet of people; a person with several posts has a row for each."""
    return _PeopleSheet(table, problems, within).plan()


class _PeopleSheet:
    """One reading of the people's sheet: what the database holds, what has been seen so far, what will be written."""

    def __init__(self, table: Table, problems: list[Problem], within: frozenset[int] | None) -> None:
        self.check = Checker(table, problems)
        self.table = table
        self.institution_of = _known_institutions(self.check, table, within)
        self.today = clock.today()
        self.roles = dict(roles.choices())
        self.held = Practitioner.objects.in_bulk(
            {str(r["code"]).strip() for r in table.rows}, field_name="code"
        )
        numbers = [str(r["licence_no"]) for r in table.rows if r["licence_no"]]
        self.licences: dict[str | None, str] = dict(
            Practitioner.objects.filter(licence_no__in=numbers).values_list("licence_no", "code")
        )
        inst_codes = {str(r["institution"] or "").strip() for r in table.rows}
        self.departments = {
            (d.institution_id, d.code): d for d in Department.objects.filter(institution__code__in=inst_codes)
        }
        self.live: dict[tuple[Any, ...], Post] = {}
        self.past: dict[tuple[Any, ...], Post] = {}
        self.held_roles: dict[str, set[str]] = defaultdict(set)
        for post in Post.objects.filter(practitioner__code__in=self.held).select_related("practitioner"):
            key = (post.practitioner.code, post.institution_id, post.department_id, post.role)
            self.past[(*key, post.since)] = post
            if post.until is None or post.until > self.today:
                self.live[key] = post
                self.held_roles[post.practitioner.code].add(post.role)
        self.seen: dict[Any, int] = {}
        self.people_wave = Wave(Practitioner, [], [])
        self.posts_wave = Wave(Post, [], ["since", "until"], links=("practitioner",))
        self.made = Plan([self.people_wave, self.posts_wave])

    def plan(self) -> Plan:
        """Read every row."""
        persons: dict[str, tuple[Practitioner, dict[str, Any]]] = {}
        for row in self.table.rows:
            code = self.check.code(row)
            values = self._person(row, code)
            if not code:
                continue
            if code not in persons:
                person = self.held.get(code) or Practitioner(code=code)
                _apply(self.made, self.people_wave, person, values)
                self.people_wave.fields = sorted({*values, "pinyin", "initials"})
                persons[code] = (person, values)
            elif persons[code][1] != values:
                differing = next(k for k, v in values.items() if persons[code][1].get(k) != v)
                self.check.wrong(
                    row, differing,
                    T("同一人员代码{c}的各行信息不一致，请统一。", "The rows of person {c} differ; make them agree.")
                    .format(c=code),
                )  # fmt: skip
            self._post(row, code, persons[code][0])
        return self.made

    def _person(self, row: Row, code: str) -> dict[str, Any]:
        check = self.check
        values: dict[str, Any] = {"name": check.text(row, "name", Practitioner, required=True)}
        for name in ("name_en", "title", "phone"):
            if check.has(name):
                values[name] = check.text(row, name, Practitioner)
        if check.has("sex"):
            values["sex"] = check.one_of(row, "sex", kinds.SEXES, "unknown")
        if check.has("licence_no"):
            licence = values["licence_no"] = check.text(row, "licence_no", Practitioner) or None
            if licence and self.licences.setdefault(licence, code) != code:
                check.wrong(
                    row, "licence_no",
                    T("该执业证书编号已属于人员{c}。", "This licence belongs to person {c}.")
                    .format(c=self.licences[licence]),
                )  # fmt: skip
        return values

    def _post(self, row: Row, code: str, person: Practitioner) -> None:
        if not any(row[name] for name in ("institution", "department", "role")):
            return  # a person without a post
        inst = self.institution_of(row)
        role = self.check.one_of(row, "role", self.roles)
        department = self._department(row, inst)
        since, until = self._date(row, "since"), self._date(row, "until")
        if inst is None or role not in self.roles:
            return
        key = (code, inst.pk, department.pk if department else None, role)
        current = self.live.get(key)
        since = since or (current.since if current else self.today)
        if until and until < since:
            self.check.wrong(row, "until", T("任职结束早于开始。", "The end is before the beginning."))
        if not _once(self.check, row, (*key, since), self.seen, "role"):
            return
        held = self.past.get((*key, since)) or (current if until is None else None)
        post = held or Post(practitioner=person, institution=inst, department=department, role=role)
        _apply(self.made, self.posts_wave, post, {"since": since, "until": until})
        if until is None or until > self.today:
            self.held_roles[code].add(role)
            if trouble := roles.conflicts(self.held_roles[code]):
                self.check.wrong(row, "role", trouble)
        elif held is current:
            self.held_roles[code].discard(role)

    def _department(self, row: Row, inst: Institution | None) -> Department | None:
        code = str(row["department"] or "").strip()
        if not code or inst is None:
            return None
        found = self.departments.get((inst.pk, code))
        if found is None:
            self.check.wrong(
                row, "department",
                T("机构{i}没有科室{d}，请先导入科室。", "Institution {i} has no department {d}; import departments first.")
                .format(i=inst.code, d=code),
            )  # fmt: skip
        return found

    def _date(self, row: Row, name: str) -> dt.date | None:
        value, trouble = tables.as_date(row[name])
        if trouble:
            self.check.wrong(row, name, trouble)
        return value
