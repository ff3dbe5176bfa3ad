"""substanceAdministration as MedicationRequest, MedicationStatement or Immunization, and back."""

from __future__ import annotations

from typing import Any

from lianxin.exchange.cda import elements, families, values
from lianxin.exchange.cda.model import Code, Entry, Product, Value

Json = dict[str, Any]

VACCINES = "11369-6"
ORDERS = "46209-3"
FORM = families.BASE + "StructureDefinition/medication-form"
"""Extension: dosage form (剂型, administrationUnitCode)."""


def resource(
    entry: Entry, section: str, kind: str, subject: Json, requests: frozenset[str]
) -> tuple[Json | None, list[Entry]]:
    """The resource (None when no drug is named) and the entries below that it has no place for."""
    product = entry.product or Product()
    code = Code() if elements.canonical(product.code.code) else product.code
    rest = list(entry.parts)
    marks: list[Json] = []
    vaccine = section == VACCINES or kind == "483.9" or entry.klass == "IMMUNIZ"
    if vaccine:
        rtype = "Immunization"
    elif kind in requests or section == ORDERS or entry.mood in ("INT", "RQO", "PRMS"):
        rtype = "MedicationRequest"
    else:
        rtype = "MedicationStatement"
    made = families.begun(rtype, subject, entry.negated)
    name = "vaccineCode" if vaccine else "medicationCodeableConcept"
    drug = values.concept(code, product.name)
    if drug:
        made[name] = drug
    for part in entry.parts:
        if (
            part.tag == "supply"
            and part.quantity
            and not (part.product or part.parts or vaccine)
            and rtype == "MedicationRequest"
        ):
            if amount := values.quantity(part.quantity.text, part.quantity.unit):
                made.setdefault("dispenseRequest", {})["quantity"] = amount
                rest.remove(part)
            continue
        row = families.BY_ELEMENT.get(part.element)
        if (
            row is None
            or row.family != ("vaccine" if vaccine else "drug")
            or part.parts
            or len(part.values) != 1
        ):
            continue
        if families.PARTS[rtype, row.part][0](made, part.values[0]):
            marks.append(families.holds(part.element, part.label))
            rest.remove(part)
    if name not in made:
        return None, entry.parts
    if vaccine:
        if product.lot:
            made["lotNumber"] = product.lot
        if product.maker:
            made["manufacturer"] = {"display": product.maker}
        if entry.dose and (dose := values.quantity(entry.dose.text, entry.dose.unit)):
            made["doseQuantity"] = dose
        if entry.route:
            made["route"] = values.concept(entry.route)
        if entry.site:
            made["site"] = values.concept(entry.site)
    else:
        _dosed(made, entry)
    if entry.form:
        made.setdefault("extension", []).append(
            {"url": FORM, "valueCodeableConcept": values.concept(entry.form)}
        )
    if marks:
        made["extension"] = [*marks, *made.get("extension", [])]
    return made, rest


def _dosed(made: Json, entry: Entry) -> None:
    parts = families.PARTS
    rtype = made["resourceType"]
    if entry.dose is not None:
        dose = entry.dose if not (entry.dose.low or entry.dose.high) else (entry.dose.low or entry.dose.high)
        if dose and not parts[rtype, "dose"][0](made, dose) and dose.text:
            _also(made, f"单次剂量 {dose.text}{dose.unit}")
    if entry.route:
        parts[rtype, "route"][0](made, Value("CD", code=entry.route))
    if entry.rate is not None and entry.rate:
        rate = Value("PQ", entry.rate.text, entry.rate.unit)
        if not parts[rtype, "frequency"][0](made, rate) and entry.rate.text:
            _also(made, f"频率 {entry.rate.text}{entry.rate.unit}")
    for time in entry.times:
        if time.type in ("PIVL_TS", "EIVL_TS") and time.text:
            _also(made, f"每 {time.text}{time.unit}")
    if (
        entry.repeat
        and rtype == "MedicationRequest"
        and (found := values.number(entry.repeat.text))
        and isinstance(found, int)
        and found > 0
    ):
        made.setdefault("dispenseRequest", {})["numberOfRepeatsAllowed"] = found
    if (
        entry.quantity
        and rtype == "MedicationRequest"
        and (amount := values.quantity(entry.quantity.text, entry.quantity.unit))
    ):
        made.setdefault("dispenseRequest", {})["quantity"] = amount
    if entry.site:
        name = "dosageInstruction" if rtype == "MedicationRequest" else "dosage"
        made.setdefault(name, [{}])[0]["site"] = values.concept(entry.site)


def _also(made: Json, text: str) -> None:
    name = "dosageInstruction" if made["resourceType"] == "MedicationRequest" else "dosage"
    dosage = made.setdefault(name, [{}])[0]
    dosage["patientInstruction"] = "；".join(filter(None, (dosage.get("patientInstruction", ""), text)))


def entry(made: Json, held: list[tuple[str, str]]) -> Entry:
    """A medication or vaccination as a substanceAdministration; ``held`` elements stand below it."""
    rtype = made["resourceType"]
    out = Entry("substanceAdministration", mood="EVN", klass="SBADM")
    parts = {
        row.part: (element, label) for element, label in held if (row := families.BY_ELEMENT.get(element))
    }
    drug = made.get("vaccineCode") or made.get("medicationCodeableConcept") or {}
    code = values.code_of(drug)
    name = drug.get("text") or code.display
    out.product = Product(Code(code.code, code.system, code.display, others=code.others), name)
    if reference := made.get("medicationReference"):
        out.product.name = reference.get("display", "") or out.product.name
    form = next((e["valueCodeableConcept"] for e in made.get("extension", ()) if e.get("url") == FORM), None)
    if form:
        out.form = values.code_of(form)
    if rtype == "Immunization":
        out.product.lot = made.get("lotNumber", "") if "lot" not in parts else ""
        out.product.maker = made.get("manufacturer", {}).get("display", "") if "maker" not in parts else ""
        if "time" not in parts and made.get("occurrenceDateTime"):
            out.times = [Value("TS", values.stamp(made["occurrenceDateTime"]))]
        if made.get("route"):
            out.route = values.code_of(made["route"])
        if made.get("site") and "site" not in parts:
            out.site = values.code_of(made["site"])
        if made.get("doseQuantity"):
            out.dose = values.quantity_of(made["doseQuantity"], "PQ")
        out.negated = made.get("status") == "not-done"
        given = [p for p in ("number",) if p not in parts]
    else:
        for part, slot in (("dose", "dose"), ("route", "route"), ("frequency", "rate")):
            value = families.PARTS[rtype, part][1](made) if part not in parts else None
            if value is None:
                continue
            if slot == "route":
                out.route = value.code or Code()
            elif slot == "rate" and value.type != "PQ":
                continue
            else:
                setattr(out, slot, value)
        given = [p for p in ("usage",) if p not in parts]
        if "frequency" not in parts and out.rate is None:
            given.append("frequency")
        quantity = made.get("dispenseRequest", {}).get("quantity")
        if quantity:
            out.quantity = values.quantity_of(quantity, "PQ")
        out.negated = bool(made.get("doNotPerform")) or made.get("status") == "not-taken"
    for element, label in held:
        row = families.BY_ELEMENT.get(element)
        value = families.PARTS[rtype, row.part][1](made) if row else None
        if value is not None:
            out.parts.append(
                Entry("observation", element=element, label=label, values=[value], relation="COMP")
            )
    for part in given:
        value = families.PARTS[rtype, part][1](made)
        if value is not None:
            row = next(r for r in families.BY_RESOURCE[rtype] if r.part == part)
            out.parts.append(
                Entry(
                    "observation",
                    element=row.element,
                    label=elements.name_of(row.element),
                    values=[value],
                    relation="COMP",
                )
            )
    return out
