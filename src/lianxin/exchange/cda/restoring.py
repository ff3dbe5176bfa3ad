"""FHIR resources as the sections and entries of a kind of document: the way back of :mod:`lianxin.exchange.cda.mapping`.

What came from a document knows its elements (codes of WS/T 363, the marks of ``families``) and its section (the Composition); what
was made elsewhere is placed by the same tables: LOINC code, family or category to element, element to the kind's section.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lianxin.exchange.cda import elements, families, laboratory, substances, values
from lianxin.exchange.cda.elements import BY_KIND, Element
from lianxin.exchange.cda.kinds import Kind
from lianxin.exchange.cda.mapped import CATEGORIES, PART_OF_DOCUMENT, REPORTS, REQUESTS
from lianxin.exchange.cda.measures import BY_LOINC, GROUPS, LOINC
from lianxin.exchange.cda.model import Code, Entry, Id, Range, Section, Value
from lianxin.exchange.cda.sorting import role_of

Json = dict[str, Any]

SILENT = frozenset(
    {"Composition", "Patient", "Encounter", "Organization", "Practitioner", "PractitionerRole", "Location", "Provenance", "Binary",
     "DocumentReference", "Device", "RelatedPerson", "Medication", "List", "Bundle", "EpisodeOfCare", "Coverage", "Person"}
)  # fmt: skip
"""Types that are no statement of a document's body: they stand in its header, or say how others belong together."""
FALLBACK = {
    "Condition": "29548-5", "AllergyIntolerance": "48765-2", "Procedure": "47519-4", "MedicationRequest": "10160-0",
    "MedicationStatement": "10160-0", "MedicationAdministration": "18610-6", "Immunization": "11369-6", "ServiceRequest": "46209-3",
    "CarePlan": "18776-5", "DiagnosticReport": "30954-2", "FamilyMemberHistory": "10157-6",
}  # fmt: skip
"""Where a type stands when the kind's own table has no place for it."""
OTHER = "其他相关信息"
_SECTIONS = {category: key for key, category in CATEGORIES.items()}
_DISCHARGE, _ADMISSION = "出院", "入院"


def sections(kind: Kind, resources: Iterable[Json]) -> list[Section]:
    """The body of a document of ``kind`` that says what ``resources`` say, sections in the order of the kind's table."""
    return _Restorer(kind, list(resources)).run()


class _Restorer:
    def __init__(self, kind: Kind, resources: list[Json]) -> None:
        self.kind, self.all = kind, resources
        self.by_ref = {f"{r['resourceType']}/{r.get('id', '')}": r for r in resources}
        self.table = BY_KIND.get(kind.number, [])
        self.done: set[int] = set()
        self.about: dict[str, list[Json]] = {}
        for one in resources:
            if _is(one, "companion"):
                for focus in one.get("focus", ()):
                    self.about.setdefault(focus.get("reference", ""), []).append(one)
        self.composition = next((r for r in resources if r["resourceType"] == "Composition"), None)

    def run(self) -> list[Section]:
        out: list[Section] = []
        if self.composition is not None:
            out = [self.section(s) for s in self.composition.get("section", ())]
        for one in self.all:
            if id(one) not in self.done and one["resourceType"] not in SILENT and not self._attached(one):
                self.place(one, out)
        self.stay(out)
        if self.composition is None:
            order = {key: n for n, key in enumerate(dict.fromkeys(e.key for e in self.table))}
            out.sort(key=lambda s: order.get(s.key, len(order)))
        return out

    def _attached(self, one: Json) -> bool:
        return _is(one, "companion") and any(f.get("reference") in self.by_ref for f in one.get("focus", ()))

    def section(self, told: Json) -> Section:
        """A section of the Composition with what it refers to."""
        made = Section(title=told.get("title", ""))
        made.code = values.code_of(told.get("code", {}))
        if not made.code.code:
            made.code = Code(display=made.code.text or made.title)
        elif made.code.text == made.title:
            made.code.text = ""
        made.key = elements.section_key(made.code.code, made.code.system, made.title, made.code.display)
        div = told.get("text", {}).get("div", "")
        made.html = div[div.find(">") + 1 : div.rfind("</")] if div else ""
        for ref in told.get("entry", ()):
            one = self.by_ref.get(ref.get("reference", ""))
            if one is not None and id(one) not in self.done and not self._attached(one):
                made.entries += self.statements(one, made.key)
        made.sections = [self.section(s) for s in told.get("section", ())]
        return made

    # ------------------------------------------------------------------------------------------------------- placing

    def place(self, one: Json, out: list[Section]) -> None:
        """Put a resource no Composition placed where the kind's table has its elements."""
        use = _use(one)
        for entry in self.statements(one, ""):
            first = next((e.element for e in entry.walk() if e.element), "")
            row = self.row(first, entry, use)
            if row is not None:
                self._name(entry, row)
                self._into(out, row).entries.append(entry)
            else:
                key = _category(one) or FALLBACK.get(one["resourceType"], "")
                known = next((e for e in self.table if e.key == key), None)
                target = self._into(out, known) if known else self._other(out, key)
                for part in entry.walk():
                    part.label = part.label or (elements.name_of(part.element) if part.element else "")
                target.entries.append(entry)

    def row(self, element: str, entry: Entry, use: str) -> Element | None:
        """The row of the table an element goes to: of several that whose name is nearest."""
        rows = [e for e in self.table if e.code == element]
        if len(rows) < 2:
            return rows[0] if rows else None
        label = next((e.label for e in entry.walk() if e.element == element and e.label), "")
        exact = [r for r in rows if label and r.name == label]
        if exact:
            return exact[0]
        wanted = use or _DISCHARGE
        near = [r for r in rows if wanted in r.name] or [
            r for r in rows if wanted == _DISCHARGE and r.key == "11535-2"
        ]
        return (near or rows)[0]

    def _name(self, entry: Entry, row: Element) -> None:
        """Names of elements as the kind's table has them; the others of a group by the same role."""
        role = role_of(row.name)
        for one in entry.walk():
            if one.element == row.code:
                one.label = one.label or row.name
            elif one.element and not one.label:
                rows = [r for r in self.table if r.code == one.element and r.key == row.key]
                same = next((r for r in rows if role_of(r.name) == role), rows[0] if rows else None)
                one.label = same.name if same else elements.name_of(one.element)

    def _into(self, out: list[Section], row: Element) -> Section:
        for section in out:
            if section.key == row.key:
                return section
        title = elements.TITLES.get(row.section_code, "") or row.section
        code = (
            Code(row.section_code, elements.LOINC, row.section, "LOINC")
            if row.section_code
            else Code(display=row.section)
        )
        made = Section(row.key, code, title)
        out.append(made)
        return made

    def _other(self, out: list[Section], key: str) -> Section:
        wanted = key or elements.titled(OTHER)
        for section in out:
            if section.key == wanted:
                return section
        made = Section(
            wanted,
            Code(key, elements.LOINC, elements.TITLES.get(key, ""), "LOINC") if key else Code(display=OTHER),
        )
        made.title = elements.TITLES.get(key, "") if key else OTHER
        out.append(made)
        return made

    def stay(self, out: list[Section]) -> None:
        """Admission and discharge from the Encounter, where the kind wants them and nobody has said them."""
        stay = next((r for r in self.all if r["resourceType"] == "Encounter"), None)
        period = stay.get("period", {}) if stay else {}
        said = {e.element for s in out for x in s.walk() for top in x.entries for e in top.walk()}
        for element, name in (("DE06.00.092.00", "start"), ("DE06.00.017.00", "end")):
            row = next((r for r in self.table if r.code == element), None)
            if row is not None and element not in said and period.get(name) and self.composition is None:
                value = Value("TS", values.stamp(period[name]))
                self._into(out, row).entries.append(Entry(element=element, label=row.name, values=[value]))

    # ---------------------------------------------------------------------------------------------------- statements

    def statements(self, one: Json, section: str) -> list[Entry]:
        """A resource as entries."""
        self.done.add(id(one))
        rtype = one["resourceType"]
        if rtype == "Observation":
            return self.observation(one, section)
        if rtype == "DiagnosticReport":
            return self.report(one)
        if rtype == "Media":
            return self.media(one)
        below = [
            c for about in self.about.get(f"{rtype}/{one.get('id', '')}", ()) for c in self._components(about)
        ]
        for about in self.about.get(f"{rtype}/{one.get('id', '')}", ()):
            self.done.add(id(about))
        marks = families.held(one)
        if rtype in ("MedicationRequest", "MedicationStatement", "Immunization") and not self._by_elements(
            marks
        ):
            made = substances.entry(one, marks)
            if rtype == "MedicationRequest" and self.kind.number not in REQUESTS:
                made.mood = "RQO"
            made.parts += below
            return [_dated(made, one)]
        if (
            rtype == "Procedure"
            and not any(e == "DE06.00.093.00" for e, _ in marks)
            and (one.get("code", {}).get("coding") or not marks)
        ):
            return [self.procedure(one, marks, below)]
        found = self.parts(one, marks)
        if not found and not below:
            return self.words(one)
        if len(found) == 1 and not (below and rtype != "Condition"):
            found[0].parts += below
            return [found[0]]
        return [Entry("organizer", klass="CLUSTER", status="completed", parts=[*found, *below])]

    def _by_elements(self, marks: list[tuple[str, str]]) -> bool:
        """Whether the resource was made of data elements side by side, and not of a substanceAdministration."""
        return any(row.part in ("name", "code") for e, _ in marks if (row := families.BY_ELEMENT.get(e)))

    def parts(self, one: Json, marks: list[tuple[str, str]]) -> list[Entry]:
        """The elements of a resource of a family: those it is marked with, or all it can give."""
        rtype = one["resourceType"]
        out: list[Entry] = []
        if marks:
            for element, label in marks:
                row = families.BY_ELEMENT.get(element)
                value = (
                    families.PARTS[rtype, row.part][1](one)
                    if row and (rtype, row.part) in families.PARTS
                    else None
                )
                if value is not None:
                    out.append(Entry(element=element, label=label, values=[value]))
            return out
        wanted = {e.code for e in self.table}
        seen: set[str] = set()
        rows = sorted(families.BY_RESOURCE.get(rtype, ()), key=lambda r: r.element not in wanted)
        for row in rows:
            if (
                row.part in seen
                or (row.kind and row.kind != self.kind.number)
                or (row.family == "chinese") != _is_chinese(one)
            ):
                continue
            value = families.PARTS[rtype, row.part][1](one)
            if value is None or not value:
                continue
            if rtype == "Condition" and row.part == "code" and not (value.code and value.code.code):
                continue
            seen.add(row.part)
            out.append(Entry(element=row.element, values=[value]))
        if rtype == "Condition" and len(out) == 2 and out[-1].element not in wanted and out[0].values[0].code:
            out[0].values[0].code.display = out[0].values[0].code.display or out[-1].values[0].text
            out.pop()
        return out

    def observation(self, one: Json, section: str) -> list[Entry]:
        """An Observation by its code: data element, LOINC, or a group of components."""
        marks = families.held(one)
        below = self._components(one)
        if any(e in laboratory.LABORATORY for e, _ in marks):
            found = [Entry(element=e, label=n, values=[v]) for e, n, v in laboratory.parts(one, marks)]
            return self._grouped(one, found, below)
        codings = one.get("code", {}).get("coding", ())
        code = _code(one)
        value = values.value_of(one)
        element = next((c["code"] for c in codings if c.get("system") == families.ELEMENTS), "")
        if element:
            made = _labelled(one, element)
            made.values = [value] if value is not None else []
            made.parts += below
            return [_judged(_dated(made, one), one)]
        loinc = next((c["code"] for c in codings if c.get("system") == LOINC), "")
        if _is(one, "group") or _is(one, "companion") or (below and value is None):
            made = Entry("organizer", klass="CLUSTER", status="completed", parts=below)
            if not _is(one, "group") and not _is(one, "companion") and loinc not in GROUPS:
                made.code = code
            if len(below) == 1 and not made.code:
                return [_dated(below[0], one)]
            return [_dated(made, one)]
        measure = self._measure(loinc)
        if measure:
            made = Entry(
                element=measure, label=elements.name_of(measure, self.kind.number), code=Code(others=[code])
            )
            made.values = [value] if value is not None else []
            made.parts += below
            return [_judged(_dated(made, one), one)]
        if _category(one) == "30954-2" and any(e.code in laboratory.LABORATORY for e in self.table):
            found = [Entry(element=e, label=self._row_name(e), values=[v]) for e, v in laboratory.native(one)]
            return self._grouped(one, found, below)
        made = Entry(code=code, label=code.label, values=[value] if value is not None else [], parts=below)
        return [_judged(_dated(made, one), one)]

    def _row_name(self, element: str) -> str:
        return elements.name_of(element, self.kind.number)

    def _measure(self, loinc: str) -> str:
        """The data element of a LOINC code, of several that which the kind has."""
        found = BY_LOINC.get(loinc, [])
        wanted = {e.code for e in self.table}
        return next((m.element for m in found if m.element in wanted), found[0].element if found else "")

    def _grouped(self, one: Json, found: list[Entry], below: list[Entry]) -> list[Entry]:
        for entry in found:
            if entry.element == "DE04.30.015.00":
                _ranged(entry, one)
        if len(found) == 1:
            found[0].parts += below
            return [_dated(found[0], one)]
        return [_dated(Entry("organizer", klass="BATTERY", status="completed", parts=[*found, *below]), one)]

    def _components(self, one: Json) -> list[Entry]:
        out: list[Entry] = []
        for part in one.get("component", ()):
            codings = part.get("code", {}).get("coding", ())
            element = next((c["code"] for c in codings if c.get("system") == families.ELEMENTS), "")
            loinc = next((c["code"] for c in codings if c.get("system") == LOINC), "")
            value = values.value_of(part)
            element = element or self._measure(loinc)
            if element:
                made = _labelled(part, element)
                made.label = made.label or elements.name_of(element, self.kind.number)
            else:
                code = _code(part)
                made = Entry(code=code, label=code.label)
            made.values = [value] if value is not None else []
            made.relation = "COMP"
            out.append(_judged(made, part))
        return out

    def procedure(self, one: Json, marks: list[tuple[str, str]], below: list[Entry]) -> Entry:
        """A Procedure as CDA has it, marked elements below."""
        made = Entry(
            "procedure", klass="PROC", status="completed" if one.get("status") == "completed" else ""
        )
        name = any(e == "DE06.00.094.00" for e, _ in marks)
        made.code = values.code_of(
            {k: v for k, v in one.get("code", {}).items() if not (name and k == "text")}
        )
        made.negated = one.get("status") == "not-done"
        if site := next(iter(one.get("bodySite", ())), None):
            made.site = values.code_of(site)
        made.parts = [*self.parts(one, marks), *below] if marks else below
        if not marks and (text := one.get("code", {}).get("text")) and made.code.code:
            made.code.text = ""
            made.parts.insert(
                0,
                Entry(
                    element="DE06.00.094.00",
                    label=elements.name_of("DE06.00.094.00", self.kind.number),
                    values=[Value("ST", text)],
                ),
            )
        return _dated(made, one)

    def report(self, one: Json) -> list[Entry]:
        """The conclusion of a report, unless the document says it in an element of its own."""
        told = REPORTS.get(self.kind.number)
        conclusion = one.get("conclusion", "")
        if not conclusion:
            return []
        conclusive = told[2] if told else ()
        for other in self.all:
            codes = [other.get("code", {}), *(c.get("code", {}) for c in other.get("component", ()))]
            if other["resourceType"] == "Observation" and any(
                k.get("code") in conclusive for c in codes for k in c.get("coding", ())
            ):
                return []
        element = conclusive[0] if conclusive else "DE04.30.009.00"
        rows = [e for e in self.table if e.code == element]
        return [Entry(element=element, label=rows[-1].name if rows else "", values=[Value("ST", conclusion)])]

    def media(self, one: Json) -> list[Entry]:
        content = one.get("content", {})
        if not content.get("data"):
            return []
        marks = families.held(one)
        value = Value("ED", media_type=content.get("contentType", ""), data=content["data"])
        element, label = marks[0] if marks else ("", content.get("title", ""))
        if element:
            return [Entry(element=element, label=label, values=[value])]
        return [Entry("observationMedia", klass="OBS", values=[value], label=label)]

    def words(self, one: Json) -> list[Entry]:
        """A resource without a place: what it is and what it says in words, so that nothing is silently left out."""
        code = values.code_of(one.get("code", {})) if isinstance(one.get("code"), dict) else Code()
        text = (
            code.label or one.get("description") or one.get("title") or one.get("text", {}).get("status", "")
        )
        return (
            [Entry("act", klass="ACT", code=code or Code(display=one["resourceType"]), text=text)]
            if text
            else []
        )


def _is(one: Json, part: str) -> bool:
    return one["resourceType"] == "Observation" and any(
        c.get("system") == PART_OF_DOCUMENT and c.get("code") == part
        for c in one.get("code", {}).get("coding", ())
    )


def _is_chinese(one: Json) -> bool:
    """Whether a Condition is a diagnosis of Chinese medicine (GB/T 15657)."""
    return any(
        c.get("system", "").startswith("urn:oid:2.16.156.10011.2.3.3.14")
        for c in one.get("code", {}).get("coding", ())
    )


def _category(one: Json) -> str:
    for category in one.get("category", ()) if isinstance(one.get("category"), list) else ():
        for coding in category.get("coding", ()):
            if key := _SECTIONS.get(coding.get("code", "")):
                return key
    return ""


def _code(one: Json) -> Code:
    """The code of a native Observation or component."""
    return values.code_of(one.get("code", {}))


def _labelled(one: Json, element: str) -> Entry:
    """An entry of a data element, with the name it came under and what else its sender had called it."""
    made = Entry(element=element)
    for coding in one.get("code", {}).get("coding", ()):
        if coding.get("system") == families.ELEMENTS and coding.get("code") == element:
            made.label = coding.get("display", "")
        elif coding.get("code") and coding.get("system") != PART_OF_DOCUMENT:
            made.code.others.append(
                Code(coding["code"], values.oid(coding.get("system", "")), coding.get("display", ""))
            )
    made.label = made.label or one.get("code", {}).get("text", "") or elements.name_of(element)
    return made


def _dated(made: Entry, one: Json) -> Entry:
    """When it was."""
    if made.times:
        return made
    for name in ("effective", "performed", "occurrence"):
        if when := one.get(f"{name}DateTime"):
            made.times = [Value("TS", values.stamp(when))]
        elif period := one.get(f"{name}Period"):
            made.times = [values.interval(period)]
    for number in one.get("identifier", ()):
        if number.get("value"):
            made.ids.append(Id(values.oid(number.get("system", "")), number["value"]))
    return made


def _judged(made: Entry, one: Json) -> Entry:
    """Interpretation and reference ranges."""
    for code in one.get("interpretation", ()):
        found = values.code_of(code)
        if found.code == "NEG" and found.system == "2.16.840.1.113883.5.83":
            made.negated = True
        else:
            made.interpretation.append(found)
    return _ranged(made, one)


def _ranged(made: Entry, one: Json) -> Entry:
    for told in one.get("referenceRange", ()):
        value = values.value_of({"valueRange": told}) if told.get("low") or told.get("high") else None
        made.ranges.append(Range(told.get("text", ""), value))
    if method := one.get("method"):
        made.method = values.code_of(method)
    if site := one.get("bodySite"):
        made.site = values.code_of(site if isinstance(site, dict) else site[0])
    return made


def _use(one: Json) -> str:
    """Whether a native Condition is a diagnosis of admission or of discharge, as far as it says so."""
    for category in one.get("category", ()) if one["resourceType"] == "Condition" else ():
        for coding in category.get("coding", ()):
            if coding.get("code") in ("AD", "admission", "admission-diagnosis"):
                return _ADMISSION
    return ""
