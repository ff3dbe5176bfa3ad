"""A document as FHIR R4: a Composition and the resources its sections speak of.  Nothing it says is lost.

A statement whose elements make up a resource (``data/families.tsv``: diagnoses, drugs, procedures, allergies, vaccinations,
orders) becomes that resource; measurements get their LOINC code beside their own; every other element is an Observation coded by
WS/T 363, its sub-elements components.  :mod:`lianxin.exchange.cda.restoring` is the way back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lianxin.exchange.cda import composing, families, laboratory, substances, values
from lianxin.exchange.cda.mapped import (
    CATEGORIES,
    OBSERVATION_CATEGORY,
    PART_OF_DOCUMENT,
    REPORTS,
    REQUESTS,
    STATUS,
    Context,
    Mapped,
    among,
    uuid5,
)
from lianxin.exchange.cda.measures import GROUPS, LOINC, Measure, measure_of
from lianxin.exchange.cda.model import Code, Document, Entry, Section
from lianxin.exchange.cda.sorting import Group, Single, arranged
from lianxin.standards.text import T, Text

Json = dict[str, Any]


def resources(document: Document, patient_reference: str, context: Context | None = None) -> Mapped:
    """``document`` as FHIR resources of ``patient_reference`` ("Patient/…"); pure, and the same every time.

    Ids come from the sender, the document's lasting key and the place, so a new version of a document updates what the
    earlier one made.
    """
    return _Mapper(document, patient_reference, context or Context()).run()


class _Mapper:
    def __init__(self, document: Document, patient: str, context: Context) -> None:
        self.document, self.context = document, context
        self.subject: Json = {"reference": patient}
        self.kind = document.kind.number if document.kind else ""
        self.base = f"{context.source}|{context.key or document.key}|"
        self.made: list[Json] = []
        self.warnings: list[Text] = []
        self.places: dict[str, int] = {}
        self.encounter: Json | None = None
        self.shared: set[str] = set()
        author = next((a.time for a in document.authors if values.instant(a.time)), "")
        self.when = values.instant(author) or values.instant(document.time)
        self.conclusions: list[str] = []
        self.results: list[Json] = []

    def run(self) -> Mapped:
        stay = composing.encounter(
            self.document, self.subject, self.context.source, self.context.organization
        )
        if stay is not None:
            stay["id"] = uuid5(stay.pop("_key", "") or f"{self.base}Encounter")
            self.shared.add(stay["id"])
            self.made.append(stay)
            self.encounter = {"reference": f"Encounter/{stay['id']}"}
        sections = [made for s in self.document.sections if (made := self.section(s))]
        if self.kind in REPORTS and (self.results or self.conclusions):
            service = REPORTS[self.kind][1]
            report = composing.report(
                self.document, service, self.context.organization, self.results, self.conclusions
            )
            report["subject"] = self.subject
            if self.encounter:
                report["encounter"] = self.encounter
            if self.when:
                report["effectiveDateTime"] = self.when
            self.add(report, "report")
        extra = composing.extra(self.document)
        if extra:
            sections.append(extra)
        composition = composing.composition(
            self.document, self.subject, self.encounter, sections, self.context.organization
        )
        composition["id"] = self.id_of("Composition", "")
        warnings = [*self.document.warnings, *self.warnings]
        return Mapped([composition, *self.made], warnings, shared=frozenset(self.shared))

    def id_of(self, rtype: str, place: str) -> str:
        """A stable id: sender, document, type and place; the same place again is counted."""
        key = f"{rtype}|{place}"
        n = self.places[key] = self.places.get(key, 0) + 1
        return uuid5(f"{self.base}{key}|{n}")

    def add(self, resource: Json, place: str) -> Json:
        """Give a resource its id and keep it; the reference to it."""
        rtype = resource["resourceType"]
        resource["id"] = self.id_of(rtype, place)
        self.made.append(resource)
        return {"reference": f"{rtype}/{resource['id']}"}

    # ---------------------------------------------------------------------------------------------------- sections

    def section(self, section: Section) -> Json | None:
        """A section of the Composition, its entries made resources."""
        refs = self.container(section.entries, section, inside=False)
        below = [made for s in section.sections if (made := self.section(s))]
        return composing.section(section, refs, below)

    def container(
        self, entries: list[Entry], section: Section, *, inside: bool, code: Code | None = None
    ) -> list[Json]:
        """What the entries of a section (or, ``inside``, of an organizer) become, as references."""
        refs: list[Json] = []
        loose: list[Entry] = []
        for one in arranged(entries, section.key, self.kind, inside=inside):
            if isinstance(one, Group):
                refs += self.group(one, section)
            elif inside and self.simple(one.entry) and measure_of(one.entry.element, one.entry.label) is None:
                loose.append(one.entry)
            else:
                refs += self.single(one, section)
        if len(loose) == 1:
            refs += self.observation(loose[0], section)
        elif loose:
            refs += self.panel(loose, section, code)
        return refs

    def simple(self, entry: Entry) -> bool:
        """Whether an entry is an observation that a component can hold."""
        return (
            entry.tag == "observation"
            and len(entry.values) < 2
            and not any(p.tag != "observation" for p in entry.walk())
        )

    def single(self, one: Single, section: Section) -> list[Json]:
        """An entry that is no part of a family."""
        entry = one.entry
        if entry.tag == "substanceAdministration" or (entry.tag == "supply" and entry.product):
            return self.substance(entry, section)
        if entry.tag == "procedure" and (entry.code.code or entry.code.label or self._named(entry)):
            return self.procedure(entry, section)
        if entry.tag in ("observationMedia", "regionOfInterest") or any(v.data for v in entry.values):
            return self.media(entry, section)
        if entry.values or entry.element or entry.text or (entry.code and not entry.parts):
            return self.observation(entry, section)
        return self.opened(entry, section)

    def opened(self, entry: Entry, section: Section) -> list[Json]:
        """An organizer or empty act as what stands in it; its times and people are those of its parts that have none."""
        parts = entry.parts
        if parts and (entry.times or entry.parties):
            parts = [
                replace(p, times=p.times or entry.times, parties=p.parties or entry.parties) for p in parts
            ]
            entry = replace(entry, times=[], parties=[])
        refs = self.container(parts, section, inside=True, code=entry.code)
        return refs + self._left(entry, section)

    def _named(self, entry: Entry) -> bool:
        return any(p.element == "DE06.00.094.00" and p.values for p in entry.parts)

    def _left(self, entry: Entry, section: Section) -> list[Json]:
        """What an organizer or act says beside its parts: times, people, unknown elements, as a note of its own."""
        notes = composing.notes(entry)
        if not notes:
            return []
        made = self.start(entry, section, Code(display=entry.label or section.title or "条目"))
        made["valueString"] = "；".join(n["text"] for n in notes)
        return [self.add(made, f"{section.key}|note")]

    # ------------------------------------------------------------------------------------------------- observations

    def start(self, entry: Entry, section: Section, code: Code) -> Json:
        """An Observation without its value."""
        made: Json = {"resourceType": "Observation", "status": STATUS.get(entry.status, "final")}
        if category := CATEGORIES.get(section.key):
            made["category"] = [{"coding": [{"system": OBSERVATION_CATEGORY, "code": category}]}]
        made["code"] = values.concept(code, code.display) or {"text": section.title or "条目"}
        made["subject"] = self.subject
        if self.encounter:
            made["encounter"] = self.encounter
        self._time(made, entry)
        return made

    def _time(self, made: Json, entry: Entry, name: str = "effective") -> None:
        for time in entry.times:
            if time.low or time.high:
                if period := values.period(time):
                    made[f"{name}Period"] = period
                    return
            elif when := values.instant(time.text):
                made[f"{name}DateTime"] = when
                return
        if self.when and name == "effective":
            made["effectiveDateTime"] = self.when

    def code(self, entry: Entry, measure: Measure | None) -> Json:
        """LOINC, the data element, and what the sender wrote when it is something else."""
        codings: list[Json] = []
        if measure:
            codings.append({"system": LOINC, "code": measure.loinc, "display": measure.display})
        if entry.element:
            coding = {"system": families.ELEMENTS, "code": entry.element}
            if entry.label:
                coding["display"] = entry.label
            codings.append(coding)
        if entry.code.code and entry.code.code.strip().upper() != entry.element:
            codings += values.codings(entry.code)
        for other in entry.code.others:
            if other.code:
                codings += [c for c in values.codings(other) if not among(c, codings)]
        made: Json = {"coding": codings} if codings else {}
        made["text"] = entry.label or entry.code.label or entry.text[:200] or entry.tag
        return made

    def observation(self, entry: Entry, section: Section) -> list[Json]:
        """An entry as an Observation, what hangs below it as components."""
        if not self.says(entry):
            return []
        measure = measure_of(entry.element, entry.label)
        made = self.start(entry, section, Code())
        made["code"] = self.code(entry, measure)
        if measure:
            made["category"] = [{"coding": [{"system": OBSERVATION_CATEGORY, "code": measure.category}]}]
        self.value(made, entry, measure)
        self.details(made, entry)
        later = self.components(made, entry.parts)
        place = f"{section.key}|{entry.element or entry.code.code or entry.label}"
        ref = self.add(made, place)
        self._remember(entry, ref, made)
        refs = [ref]
        for value in entry.values[1:]:
            if value:
                again = {
                    k: v
                    for k, v in made.items()
                    if not k.startswith(("value", "_value")) and k not in ("component", "id", "note")
                }
                values.put(again, value, measure.unit if measure else "")
                refs.append(self.add(again, place))
        return refs + [r for e in later for r in self.single(Single(e), section)]

    def says(self, entry: Entry) -> bool:
        """Whether an entry says anything at all (templates leave empty shells of what was not filled in)."""
        if (
            any(v or v.null for v in entry.values)
            or entry.text
            or entry.times
            or entry.interpretation
            or entry.rest
        ):
            return True
        if entry.parties and any(p.name or p.org for p in entry.parties):
            return True
        coded = entry.code.code and not entry.element and not entry.values and entry.tag != "observation"
        return bool(coded) or any(self.says(p) for p in entry.parts)

    def value(self, made: Json, entry: Entry, measure: Measure | None = None) -> None:
        """The value, told when it does not fit its type."""
        value = next(iter(entry.values), None)
        if value is None or not (value or value.null):
            if entry.text:
                made["valueString"] = entry.text
            elif not entry.parts:
                made["dataAbsentReason"] = values.absent("UNK")
            return
        if not values.put(made, value, measure.unit if measure else ""):
            self.warnings.append(
                T(
                    "{place} {name} 的取值不符合类型 {type}，按文字保存。",
                    "{place} {name}: the value does not fit its type {type} and is kept as text.",
                ).format(place=entry.place, name=entry.label or entry.element, type=value.type)
            )

    def details(self, made: Json, entry: Entry) -> None:
        """Interpretation, ranges, method, site, performers, and everything without a place as notes."""
        if entry.interpretation:
            made["interpretation"] = [values.concept(c) for c in entry.interpretation]
        if entry.negated:
            made.setdefault("interpretation", []).append(
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                            "code": "NEG",
                        }
                    ]
                }
            )
        if ranges := [r for one in entry.ranges if (r := composing.reference_range(one))]:
            made["referenceRange"] = ranges
        if entry.method:
            made["method"] = values.concept(entry.method)
        if entry.site:
            made["bodySite"] = values.concept(entry.site)
        performers = [
            composing.person(p) for p in entry.parties if p.role == "performer" and (p.name or p.org)
        ]
        if performers:
            made["performer"] = performers
        if notes := composing.notes(entry):
            made["note"] = notes

    def components(self, made: Json, parts: list[Entry]) -> list[Entry]:
        """Put entries below into components, with all below them; what a component cannot hold is given back."""
        own = {c.get("code") for c in made["code"].get("coding", ())}
        later: list[Entry] = []
        for part in parts:
            if (
                not self.simple(part)
                or part.element in own
                or (part.values and any(v.data for v in part.values))
            ):
                later.append(part)
                continue
            for one in part.walk():
                if (one is part or one.values or one.text) and self.says_itself(one):
                    made.setdefault("component", []).append(self.component(one))
        return later

    def says_itself(self, entry: Entry) -> bool:
        """Whether an entry has anything of its own, apart from what hangs below it."""
        return bool(any(v or v.null for v in entry.values) or entry.text or entry.times or entry.rest)

    def component(self, entry: Entry) -> Json:
        """An entry as a component; what a component has no place for goes into its code's text."""
        measure = measure_of(entry.element, entry.label)
        made: Json = {"code": self.code(entry, measure)}
        self.value(made, entry, measure)
        if entry.interpretation:
            made["interpretation"] = [values.concept(c) for c in entry.interpretation]
        if ranges := [r for one in entry.ranges if (r := composing.reference_range(one))]:
            made["referenceRange"] = ranges
        said = [f"{n['text']}" for n in composing.notes(entry, times=True)]
        if said:
            made["code"]["text"] = f"{made['code']['text']}（{'；'.join(said)}）"
        return made

    def panel(self, entries: list[Entry], section: Section, code: Code | None) -> list[Json]:
        """Several elements that stand together in an organizer, as one Observation with components."""
        said = [e for e in entries if self.says(e)]
        if len(said) < 2:
            return [r for e in said for r in self.observation(e, section)]
        first = said[0]
        made = self.start(Entry(times=first.times), section, Code())
        made["code"] = self.panel_code(section, code)
        later = self.components(made, said)
        if performers := [
            composing.person(p)
            for e in said
            for p in e.parties
            if p.role == "performer" and (p.name or p.org)
        ]:
            made["performer"] = [p for n, p in enumerate(performers) if p not in performers[:n]]
        for entry in said:
            if entry.element in self._concluding:
                self._remember(entry, {}, made)
        refs = (
            [self.add(made, f"{section.key}|panel|{first.element or first.label}")]
            if made.get("component")
            else []
        )
        return refs + [r for e in later for r in self.single(Single(e), section)]

    def panel_code(self, section: Section, code: Code | None) -> Json:
        if code and (code.code or code.label) and not code.null:
            return values.concept(code) or {"text": code.label}
        made: Json = {"coding": [{"system": PART_OF_DOCUMENT, "code": "group"}]}
        made["text"] = section.title or "条目组"
        return made

    @property
    def _concluding(self) -> tuple[str, ...]:
        return REPORTS[self.kind][2] if self.kind in REPORTS else ()

    def _remember(self, entry: Entry, ref: Json, made: Json) -> None:
        """What the report of this document is made of."""
        if self.kind not in REPORTS:
            return
        if entry.element in self._concluding:
            self.conclusions += [f"{entry.label}：{v.text}" for v in entry.values if v.text]
        elif ref and any(
            c.get("code") == "laboratory" for k in made.get("category", ()) for c in k.get("coding", ())
        ):
            self.results.append(ref)

    # ------------------------------------------------------------------------------------------------------ families

    def group(self, group: Group, section: Section) -> list[Json]:
        """Elements of one family as their resource; what does not fit stays an observation beside it."""
        if group.family == "measure":
            return self.measured(group, section)
        if group.family == "laboratory":
            return self.laboratory(group, section)
        rtype = group.resource
        if rtype == "MedicationStatement" and self.kind in REQUESTS:
            rtype = "MedicationRequest"
        first = group.entries[0]
        made = families.begun(rtype, self.subject, any(e.negated for e in group.entries))
        refused: list[Entry] = []
        marks: list[Json] = []
        for part, entry in group.parts:
            put, _ = families.PARTS[rtype, part]
            if len(entry.values) == 1 and put(made, entry.values[0]):
                marks.append(families.holds(entry.element, entry.label))
            else:
                refused.append(entry)
        if not any(families.PARTS[rtype, part][1](made) for part in group.needs):
            return [r for e in group.entries for r in self.observation(e, section)]
        families.finished(made)
        made["extension"] = marks
        self._visit(made)
        self._recorded(made, first)
        for entry in group.entries:
            if entry not in refused and (notes := composing.notes(entry, times=True)):
                made.setdefault("note", []).extend(notes)
        ref = self.add(made, f"{section.key}|{'|'.join(f'{e.element}{e.label}' for e in group.entries)}")
        rest = [
            *refused,
            *(p for e in group.entries if e not in refused for p in e.parts if p not in group.entries),
        ]
        return [ref, *self.companion(rest, ref, section)]

    def companion(self, entries: list[Entry], ref: Json, section: Section) -> list[Json]:
        """Elements that belong to a resource which has no place for them: an Observation about it."""
        said = [e for e in entries if self.says(e)]
        if not said:
            return []
        made = self.start(Entry(), section, Code())
        made["code"] = {"coding": [{"system": PART_OF_DOCUMENT, "code": "companion"}], "text": "附加数据元"}
        made["focus"] = [ref]
        later = self.components(made, said)
        refs = [self.add(made, f"{section.key}|companion|{said[0].element}")] if made.get("component") else []
        return refs + [r for e in later for r in self.single(Single(e), section)]

    def _visit(self, made: Json) -> None:
        if self.encounter and made["resourceType"] in (
            "Condition",
            "Procedure",
            "Immunization",
            "ServiceRequest",
            "CarePlan",
            "MedicationRequest",
            "AllergyIntolerance",
        ):
            made["encounter"] = self.encounter
        elif self.encounter and made["resourceType"] == "MedicationStatement":
            made["context"] = self.encounter

    def _recorded(self, made: Json, entry: Entry) -> None:
        """When it was found or written down."""
        rtype = made["resourceType"]
        if rtype in ("Condition", "AllergyIntolerance"):
            when = next(
                (w for t in entry.times if (w := values.instant(t.text or (t.low.text if t.low else "")))), ""
            )
            if when or self.when:
                made["recordedDate"] = when or self.when
        elif rtype in ("MedicationRequest", "ServiceRequest") and self.when:
            made["authoredOn"] = self.when
        elif rtype == "MedicationStatement":
            self._time(made, entry)
        elif rtype == "Procedure":
            if "performedDateTime" not in made:
                self._time(made, entry, "performed")
        elif rtype == "CarePlan" and self.when:
            made["created"] = self.when

    def measured(self, group: Group, section: Section) -> list[Json]:
        """Blood pressure: one Observation with its two numbers as components."""
        first = group.entries[0]
        display, text = GROUPS[group.resource]
        made = self.start(first, section, Code())
        made["category"] = [{"coding": [{"system": OBSERVATION_CATEGORY, "code": "vital-signs"}]}]
        made["code"] = {
            "coding": [{"system": LOINC, "code": group.resource, "display": display}],
            "text": text,
        }
        below: list[Entry] = []
        for entry in group.entries:
            made.setdefault("component", []).append(self.component(entry))
            below += entry.parts
        later = self.components(made, below)
        ref = self.add(made, f"{section.key}|{group.resource}")
        return [ref, *(r for e in later for r in self.single(Single(e), section))]

    def laboratory(self, group: Group, section: Section) -> list[Json]:
        """An examined item, its value, unit and judgement: one Observation."""
        made = self.start(group.entries[0], section, Code())
        rest = laboratory.fill(made, group)
        for entry in group.entries:
            if entry not in rest:
                self.details(made, entry)
                rest += [p for p in entry.parts if p not in group.entries]
        later = self.components(made, [e for e in rest if self.says(e)])
        ref = self.add(made, f"{section.key}|{'|'.join(f'{e.element}' for e in group.entries)}")
        if self.kind in REPORTS:
            self.results.append(ref)
        return [ref, *(r for e in later for r in self.single(Single(e), section))]

    # ------------------------------------------------------------------------------------- procedures, drugs, pictures

    def procedure(self, entry: Entry, section: Section) -> list[Json]:
        """A procedure; its name may stand in an element below it."""
        made = families.begun("Procedure", self.subject, entry.negated)
        if entry.mood in ("INT", "RQO", "PRP"):
            made["status"] = "preparation"
        code = values.concept(entry.code)
        marks: list[Json] = []
        rest: list[Entry] = []
        if code:
            made["code"] = code
        for part in entry.parts:
            value = part.values[0] if len(part.values) == 1 else None
            if (
                value
                and part.element == "DE06.00.094.00"
                and not part.parts
                and families.PARTS["Procedure", "name"][0](made, value)
            ):
                marks.append(families.holds(part.element, part.label))
            else:
                rest.append(part)
        self._time(made, entry, "performed")
        if entry.site:
            made["bodySite"] = [values.concept(entry.site)]
        if actors := [
            {"actor": composing.person(p)}
            for p in entry.parties
            if p.role == "performer" and (p.name or p.org)
        ]:
            made["performer"] = actors
        if marks:
            made["extension"] = marks
        self._visit(made)
        if notes := [*composing.notes(entry), *([{"text": entry.text}] if entry.text else [])]:
            made["note"] = notes
        ref = self.add(made, f"{section.key}|{entry.code.code or entry.label}")
        return [ref, *self.companion(rest, ref, section)]

    def substance(self, entry: Entry, section: Section) -> list[Json]:
        """A drug given or prescribed, or a vaccination."""
        made, rest = substances.resource(entry, section.key, self.kind, self.subject, REQUESTS)
        if made is None:
            return self.opened(entry, section)
        self._visit(made)
        if made["resourceType"] == "Immunization":
            self._time(made, entry, "occurrence")
            if "occurrencePeriod" in made:
                made["occurrenceDateTime"] = made.pop("occurrencePeriod").get("start", self.when)
            families.finished(made)
        else:
            self._recorded(made, entry)
        if notes := [*composing.notes(entry), *([{"text": entry.text}] if entry.text else [])]:
            made["note"] = notes
        ref = self.add(
            made,
            f"{section.key}|{entry.product.name or entry.product.code.code if entry.product else entry.label}",
        )
        return [ref, *self.companion(rest, ref, section)]

    def media(self, entry: Entry, section: Section) -> list[Json]:
        """A picture or file inside the document."""
        refs = []
        for value in entry.values:
            if value.data:
                made: Json = {"resourceType": "Media", "status": "completed", "subject": self.subject}
                if self.encounter:
                    made["encounter"] = self.encounter
                self._time(made, entry, "created")
                made.pop("createdPeriod", None)
                made["content"] = composing.attachment(value, entry.label or entry.text or section.title)
                if entry.element:
                    made["extension"] = [families.holds(entry.element, entry.label)]
                refs.append(self.add(made, f"{section.key}|{entry.element or entry.label}"))
        rest = Entry(
            entry.tag,
            entry.place,
            entry.element,
            entry.label,
            entry.code,
            values=[v for v in entry.values if not v.data],
            text=entry.text,
            parts=entry.parts,
            parties=entry.parties,
            rest=entry.rest,
            times=entry.times if not refs else [],
        )
        if rest.values or rest.parts or (not refs and self.says(rest)):
            rest.tag = "observation"
            refs += self.observation(rest, section)
        return refs
