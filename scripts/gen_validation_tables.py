"""Make the record's validation tables from the official definitions (HL7 FHIR R4 core package, CC0).

    python scripts/gen_validation_tables.py r4-definitions.zip

Writes into ``src/lianxin/record/data``: ``invariants.json`` (constraints by the type or element they stand on) and
``bindings.json`` (every binding to a value set, and the codes of those bound as required that can be listed).
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "src" / "lianxin" / "record" / "data"
EVERYWHERE = {"ele-1", "ext-1"}  # checked by the walk itself, on every element
RESOURCES = {"dom-2", "dom-3", "dom-4", "dom-5", "dom-6"}  # the same on every resource
SIMPLE = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
CURRENCIES = (  # ISO 4217:2015 with its amendments up to 177: active codes and funds
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE "
    "CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GGP GHS GIP GMD GNF "
    "GTQ GYD HKD HNL HRK HTG HUF IDR ILS IMP INR IQD IRR ISK JEP JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
    "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
    "PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND "
    "TOP TRY TTD TVD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VEF VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XDR "
    "XOF XPD XPF XPT XSU XTS XUA XXX YER ZAR ZMW ZWL"
)  # fmt: skip


def load(path: str) -> list[dict[str, Any]]:
    """Every resource of the package."""
    with zipfile.ZipFile(path) as archive:
        return [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]


def specializations(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The base definitions (no profiles, no logical models), by id."""
    found = [
        r
        for r in resources
        if r["resourceType"] == "StructureDefinition"
        and r.get("derivation", "specialization") == "specialization"
        and r["kind"] in ("resource", "complex-type")
        and r["id"] not in ("Definition", "Event", "FiveWs", "Request")
    ]
    return sorted(found, key=lambda r: r["id"])


def invariants(definitions: list[dict[str, Any]]) -> dict[str, list[list[str]]]:
    """``path -> [[key, severity, expression, English rule]]``; the rules of every resource stand under ``Resource``."""
    table: dict[str, list[list[str]]] = {}
    for sd in definitions:
        for element in sd["snapshot"]["element"]:
            for rule in element.get("constraint", []):
                key = rule["key"]
                if key in EVERYWHERE or "expression" not in rule:
                    continue
                path = "Resource" if key in RESOURCES else element["path"]
                row = [key, rule["severity"], rule["expression"], rule["human"]]
                if row not in table.setdefault(path, []):
                    table[path].append(row)
            if any(SIMPLE in kind.get("profile", []) for kind in element.get("type", [])):
                table.setdefault(element["path"], []).append(
                    [
                        "sqty-1",
                        "error",
                        "comparator.empty()",
                        "The comparator is not used on a SimpleQuantity",
                    ]
                )
    return table


def listed(value_set: dict[str, Any] | None, systems: dict[str, Any]) -> dict[str, list[str]] | None:
    """Codes by system, when every include is a whole complete system or a list of concepts."""
    codes: dict[str, set[str]] = {}
    if value_set is None or "exclude" in value_set.get("compose", {}):
        return None
    for part in value_set.get("compose", {}).get("include", []):
        if "filter" in part or "valueSet" in part:
            return None
        into = codes.setdefault(part["system"], set())
        if "concept" in part:
            into.update(concept["code"] for concept in part["concept"])
            continue
        if part["system"] == "urn:iso:std:iso:4217":
            into.update(CURRENCIES.split())
            continue
        system = systems.get(part["system"])
        if system is None or system.get("content") != "complete":
            return None
        stack = list(system.get("concept", []))
        while stack:
            concept = stack.pop()
            into.add(concept["code"])
            stack += concept.get("concept", [])
    return {system: sorted(found) for system, found in sorted(codes.items())} or None


def bindings(definitions: list[dict[str, Any]], resources: list[dict[str, Any]]) -> dict[str, Any]:
    """``elements``: path -> [strength, value set]; ``sets``: codes by system of the required ones (codes are in structures.json)."""
    value_sets = {r["url"]: r for r in resources if r["resourceType"] == "ValueSet" and "url" in r}
    systems = {r["url"]: r for r in resources if r["resourceType"] == "CodeSystem" and "url" in r}
    elements: dict[str, list[str]] = {}
    sets: dict[str, Any] = {}
    for sd in definitions:
        for element in sd["snapshot"]["element"]:
            binding = element.get("binding", {})
            url = binding.get("valueSet", "").split("|")[0]
            strength = binding.get("strength")
            if not url or strength == "example" or not element.get("type"):
                continue
            code = [kind["code"] for kind in element["type"]] == ["code"]
            if code and strength == "required" and url.rsplit("/", 1)[-1] != "currencies":
                continue
            elements[element["path"]] = [strength, url]
            if strength == "required":
                found = listed(value_sets.get(url), systems)
                if found:
                    sets[url] = found
    used = {url for _, url in elements.values()}
    return {"elements": elements, "sets": {url: sets[url] for url in sorted(used & sets.keys())}}


def write(name: str, table: dict[str, Any]) -> None:
    """One line per top-level member, so that a change can be read in a diff."""
    lines = [
        json.dumps(k) + ":" + json.dumps(v, ensure_ascii=False, separators=(",", ":"))
        for k, v in table.items()
    ]
    (DATA / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Read the package named on the command line; write both tables."""
    resources = load(sys.argv[1])
    definitions = specializations(resources)
    write("invariants.json", invariants(definitions))
    write("bindings.json", bindings(definitions, resources))


if __name__ == "__main__":
    main()
