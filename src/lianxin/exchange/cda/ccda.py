"""Documents from abroad (C-CDA, CCD, any CDA with LOINC sections) as FHIR: problems, allergies, drugs, results, visits.

What a statement is, its template says (``data/foreign.tsv``), else the section it stands in.  Everything that is none of these is
mapped as in any other document (:mod:`mapping`), so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lianxin.exchange.cda import composing, mapping, values
from lianxin.exchange.cda.kinds import rows
from lianxin.exchange.cda.mapping import Context, Json, Mapped
from lianxin.exchange.cda.model import Code, Document, Entry, Section
from lianxin.exchange.cda.sorting import Single

TERMS = "http://terminology.hl7.org/CodeSystem/"
LOINC = "2.16.840.1.113883.6.1"
SNOMED = "2.16.840.1.113883.6.96"
BY_TEMPLATE: dict[str, str] = {}
BY_SECTION: dict[str, str] = {}
for _row in rows("foreign.tsv"):
    (BY_TEMPLATE if _row["by"] == "template" else BY_SECTION)[_row["id"]] = _row["meaning"]
NO_ALLERGY = {"system": "http://snomed.info/sct", "code": "716186003", "display": "No known allergy"}
CLASSES = {"AMB", "IMP", "EMER", "HH", "VR", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "FLD"}
TAKEN = {
    "active": "active",
    "completed": "completed",
    "aborted": "stopped",
    "suspended": "on-hold",
    "held": "on-hold",
}
GONE = frozenset({"completed", "resolved", "inactive", "aborted", "remission"})


def resources(document: Document, patient_reference: str, context: Context) -> Mapped:
    """``document`` as FHIR resources of ``patient_reference``; pure, and the same every time (see :func:`mapping.resources`)."""
    return _Foreign(document, patient_reference, context).run()


class _Foreign(mapping._Mapper):
    """The mapper of documents that are none of WS/T: what a statement means is asked first."""

    def single(self, one: Single, section: Section) -> list[Json]:
        """An entry by what it means; what means nothing special goes the common way."""
        entry = one.entry
        meaning = meaning_of(entry, section)
        made = getattr(self, f"_{meaning}")(entry, section) if meaning else []
        return made or super().single(one, section)

    # ---------------------------------------------------------------------------------------------------- problems

    def _problem(self, entry: Entry, section: Section) -> list[Json]:
        """A concern with its observations, an encounter's diagnosis, or an observation by itself: Conditions."""
        refs = []
        for found in _observations(entry):
            code = _value(found)
            if code is None:
                continue
            made: Json = {"resourceType": "Condition", "subject": self.subject}
            low, high = _bounds(found) or _bounds(entry) or ("", "")
            status = _status(found, "33999-4") or ("resolved" if high else "")
            gone = status in GONE or (not status and entry is not found and entry.status == "completed")
            clinical = "resolved" if gone else "active"
            if not found.negated:
                made["clinicalStatus"] = _coded("condition-clinical", clinical)
            made["verificationStatus"] = _coded(
                "condition-ver-status", "refuted" if found.negated else "confirmed"
            )
            diagnosis = "22.4.80" in " ".join(entry.templates) or section.code.code in (
                "46240-8",
                "11535-2",
                "46241-6",
            )
            made["category"] = [
                _coded("condition-category", "encounter-diagnosis" if diagnosis else "problem-list-item")
            ]
            made["code"] = values.concept(code, code.label or found.text)
            if low:
                made["onsetDateTime"] = low
            if high and gone:
                made["abatementDateTime"] = high
            self._noted(made, found, entry)
            refs.append(self._kept(made, section, code))
        return refs

    # --------------------------------------------------------------------------------------------------- allergies

    def _allergy(self, entry: Entry, section: Section) -> list[Json]:
        """An allergy with its substance, reactions and severity; a negated one without a substance: none known."""
        refs = []
        for found in _observations(entry):
            substance = next((p.thing for p in found.parties if p.thing), None) or next(
                (Code(text=p.thing_text or p.name) for p in found.parties if p.thing_text or p.name), None
            )
            made: Json = {"resourceType": "AllergyIntolerance", "patient": self.subject}
            low, high = _bounds(found) or _bounds(entry) or ("", "")
            status = _status(found, "33999-4")
            active = not high and status not in GONE
            made["clinicalStatus"] = _coded("allergyintolerance-clinical", "active" if active else "resolved")
            refuted = found.negated and substance is not None
            made["verificationStatus"] = _coded(
                "allergyintolerance-verification", "refuted" if refuted else "confirmed"
            )
            if refuted:
                del made["clinicalStatus"]
            kind = _value(found)
            if substance is not None:
                made["code"] = values.concept(substance, substance.label)
            elif found.negated:
                made["code"] = {"coding": [NO_ALLERGY], "text": "无已知过敏"}
            elif found.text or (kind and kind.label):
                made["code"] = {"text": found.text or (kind.label if kind else "")}
            else:
                continue
            if kind is not None and substance is not None:
                words = kind.label.lower()
                made["type"] = "intolerance" if "intolerance" in words else "allergy"
                for word, category in (
                    ("drug", "medication"),
                    ("medic", "medication"),
                    ("food", "food"),
                    ("environ", "environment"),
                ):
                    if word in words:
                        made["category"] = [category]
                        break
            if low:
                made["onsetDateTime"] = low
            reactions = [r for r in map(self._reaction, _hanging(found, "MFST")) if r]
            if reactions:
                made["reaction"] = reactions
            self._noted(made, found, entry)
            refs.append(self._kept(made, section, substance or Code(code="none")))
        return refs

    def _reaction(self, entry: Entry) -> Json | None:
        code = _value(entry)
        if code is None and not entry.text:
            return None
        shown = values.concept(code, code.label) if code else {"text": entry.text}
        made: Json = {"manifestation": [shown]}
        severity = next((_value(p) for p in entry.parts if p.code.code in ("SEV", "SEVERITY")), None)
        if severity is not None:
            word = severity.label.lower()
            level = (
                "severe"
                if "severe" in word or "重" in word or "fatal" in word
                else "mild"
                if "mild" in word or "轻" in word
                else "moderate"
            )
            made["severity"] = level
        return made

    # ------------------------------------------------------------------------------------------ procedures, results

    def _act(self, entry: Entry, section: Section) -> list[Json]:
        """A procedure said as an act or an observation."""
        if entry.tag == "procedure" or not (entry.code.code or entry.code.label):
            return []
        made: Json = {"resourceType": "Procedure", "status": _done(entry), "subject": self.subject}
        made["code"] = values.concept(entry.code, entry.code.label)
        self._time(made, entry, "performed")
        self._visit(made)
        self._noted(made, entry)
        return [self._kept(made, section, entry.code)]

    def _results(self, entry: Entry, section: Section) -> list[Json]:
        """A battery of results: an Observation each, and a DiagnosticReport over them."""
        refs = self._each(entry, section)
        if not refs or not (entry.code.code or entry.code.label):
            return refs
        made: Json = {"resourceType": "DiagnosticReport", "status": _STATUS.get(entry.status, "final")}
        made["category"] = [{"coding": [{"system": f"{TERMS}v2-0074", "code": "LAB"}]}]
        made["code"] = values.concept(entry.code, entry.code.label)
        made["subject"] = self.subject
        if self.encounter:
            made["encounter"] = self.encounter
        self._time(made, entry)
        made["result"] = refs
        self._noted(made, entry)
        return [self._kept(made, section, entry.code), *refs]

    def _each(self, entry: Entry, section: Section) -> list[Json]:
        """The observations of an organizer, each by itself, with the organizer's time where it has none."""
        refs: list[Json] = []
        for part in entry.parts:
            if part.tag == "observation":
                part.times = part.times or entry.times
                refs += self.observation(part, section)
            else:
                refs += self.single(Single(part), section)
        return refs

    # ------------------------------------------------------------------------------------------------------- drugs

    def substance(self, entry: Entry, section: Section) -> list[Json]:
        """A drug with whether it is taken now and since when, which these documents say."""
        before = len(self.made)
        refs = super().substance(entry, section)
        for made in self.made[before:]:
            if made["resourceType"] == "MedicationStatement":
                if made.get("status") in (None, "unknown") and entry.status in TAKEN:
                    made["status"] = "not-taken" if entry.negated else TAKEN[entry.status]
                if period := next(
                    (p for t in entry.times if (t.low or t.high) and (p := values.period(t))), None
                ):
                    made["effectivePeriod"] = period
                    made.pop("effectiveDateTime", None)
        return refs

    # -------------------------------------------------------------------------------------------------- encounters

    def _encounter(self, entry: Entry, section: Section) -> list[Json]:
        """A visit of the past."""
        if entry.tag != "encounter":
            return []
        said = entry.code.code.upper()
        other = next((o.code.upper() for o in entry.code.others if o.code.upper() in CLASSES), "")
        made: Json = {
            "resourceType": "Encounter",
            "status": "planned" if entry.mood in ("INT", "APT", "ARQ", "RQO") else "finished",
            "class": _class(said, other),
            "subject": self.subject,
        }
        if entry.code.label:
            made["type"] = [values.concept(entry.code, entry.code.label)]
        if period := next((p for t in entry.times if (p := values.period(t))), None):
            made["period"] = period
        who = [composing.person(p) for p in entry.parties if p.role == "performer" and (p.name or p.org)]
        if who:
            made["participant"] = [{"individual": one} for one in who]
        refs = [self._kept(made, section, entry.code)]
        for part in entry.parts:
            if part.tag in ("act", "observation"):
                refs += self._problem(part, section)
        return refs

    # ----------------------------------------------------------------------------------------------------- helpers

    def _kept(self, made: Json, section: Section, code: Code) -> Json:
        if made["resourceType"] in ("Condition",) and self.encounter:
            made["encounter"] = self.encounter
        return self.add(made, f"{section.key}|{code.code or code.label}")

    def _noted(self, made: Json, *entries: Entry) -> None:
        notes = [
            n
            for e in dict.fromkeys(map(id, entries))
            for n in composing.notes(next(x for x in entries if id(x) == e))
        ]
        if notes and made["resourceType"] != "DiagnosticReport":
            made["note"] = notes
        if notes and made["resourceType"] == "DiagnosticReport":
            made["conclusion"] = "\n".join(n["text"] for n in notes)


_STATUS = {"completed": "final", "active": "partial", "aborted": "cancelled", "nullified": "entered-in-error"}


def meaning_of(entry: Entry, section: Section) -> str:
    """What an entry means: by its templates, else by its section."""
    for template in entry.templates:
        if found := BY_TEMPLATE.get(template):
            return found
    meaning = BY_SECTION.get(section.code.code, "")
    if meaning == "results":
        return "results" if entry.tag == "organizer" else ""
    if meaning == "each":
        return "each" if entry.tag == "organizer" else ""
    if meaning in ("problem", "allergy"):
        return meaning if entry.tag in ("act", "observation") else ""
    return meaning


def _class(said: str, other: str) -> Json:
    """The class of a visit; unknown when neither its code nor a translation is of v3-ActCode."""
    if said in CLASSES or other:
        return {"system": f"{TERMS}v3-ActCode", "code": said if said in CLASSES else other}
    return {"system": f"{TERMS}v3-NullFlavor", "code": "UNK"}


def _observations(entry: Entry) -> Iterator[Entry]:
    """The statements of a concern: its observations, or the entry itself."""
    inner = [p for p in entry.parts if p.tag == "observation"]
    if entry.tag == "act" and inner:
        yield from inner
    elif entry.tag == "act":
        for part in entry.parts:
            if part.tag == "act":
                yield from _observations(part)
    else:
        yield entry


def _value(entry: Entry) -> Code | None:
    """The coded value of an observation, words when it has no code."""
    for value in entry.values:
        if value.code and (value.code.code or value.code.label or value.code.others):
            return value.code
        if value.text:
            return Code(text=value.text)
    return None


def _bounds(entry: Entry) -> tuple[str, str] | None:
    """Beginning and end of what an entry speaks of, as FHIR times."""
    for time in entry.times:
        low = values.instant(time.low.text if time.low else time.text)
        high = values.instant(time.high.text) if time.high else ""
        if low or high:
            return low, high
    return None


def _status(entry: Entry, loinc: str) -> str:
    """The status said in an observation of its own (LOINC 33999-4), in small letters."""
    for part in entry.parts:
        if part.code.code == loinc and (code := _value(part)):
            return code.label.lower().partition(" ")[0]
    return ""


def _hanging(entry: Entry, relation: str) -> list[Entry]:
    return [p for p in entry.parts if p.relation == relation]


def _done(entry: Entry) -> str:
    if entry.negated:
        return "not-done"
    if entry.mood in ("INT", "RQO", "PRP"):
        return "preparation"
    return {"active": "in-progress", "aborted": "stopped", "cancelled": "not-done"}.get(
        entry.status, "completed"
    )


def _coded(system: str, code: str) -> Json:
    return {"coding": [{"system": f"{TERMS}{system}", "code": code}]}


__all__: list[Any] = ["meaning_of", "resources"]
