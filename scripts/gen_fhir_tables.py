"""Make the compact FHIR R4 tables of the record from the official definitions (HL7 FHIR R4 core package, CC0).

    python scripts/gen_fhir_tables.py r4-definitions.zip

Writes ``src/lianxin/record/data/structures.json`` (elements, types, cardinality, reference targets, required codes)
``search.json`` (search parameters by type, each with a number that never changes once given) and ``compartments.json``.
"""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "src" / "lianxin" / "record" / "data"
PROFILE = "http://hl7.org/fhir/StructureDefinition/"
SYSTEM_TYPES = {"http://hl7.org/fhirpath/System.String": "string"}


def load(path: str) -> list[dict[str, Any]]:
    """Every resource of the package."""
    with zipfile.ZipFile(path) as archive:
        return [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]


def codes_of(url: str, value_sets: dict[str, Any], systems: dict[str, Any]) -> list[str] | None:
    """Codes of a value set built only from whole complete code systems or listed concepts; None when it is wider."""
    value_set = value_sets.get(url.split("|")[0])
    if value_set is None or "exclude" in value_set.get("compose", {}):
        return None
    codes: list[str] = []
    for part in value_set.get("compose", {}).get("include", []):
        if "filter" in part or "valueSet" in part:
            return None
        if "concept" in part:
            codes += [concept["code"] for concept in part["concept"]]
            continue
        system = systems.get(part.get("system", ""))
        if system is None or system.get("content") != "complete":
            return None
        stack = list(system.get("concept", []))
        while stack:
            concept = stack.pop()
            codes.append(concept["code"])
            stack += concept.get("concept", [])
    return sorted(set(codes)) or None


def type_text(element: dict[str, Any]) -> str:
    """``code``, ``Reference(Patient|Group)``, ``Quantity|string`` or ``@Observation.component``."""
    if "contentReference" in element:
        return "@" + element["contentReference"].lstrip("#")
    parts = []
    for kind in element.get("type", []):
        code = SYSTEM_TYPES.get(kind["code"], kind["code"])
        targets = [t.removeprefix(PROFILE) for t in kind.get("targetProfile", [])]
        if code == "Reference" and targets and "Resource" not in targets:
            code += "(" + ",".join(targets) + ")"
        parts.append(code)
    return "|".join(parts)


def structures(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The structure table: primitives' regexes, types with their elements, required codes by value set."""
    value_sets = {r["url"]: r for r in resources if r["resourceType"] == "ValueSet" and "url" in r}
    systems = {r["url"]: r for r in resources if r["resourceType"] == "CodeSystem" and "url" in r}
    definitions = [
        r
        for r in resources
        if r["resourceType"] == "StructureDefinition"
        and r.get("derivation", "specialization") == "specialization"
    ]
    primitives: dict[str, str] = {}
    types: dict[str, Any] = {}
    bound: dict[str, list[str]] = {}
    names: list[str] = []
    summary: dict[str, list[str]] = {}
    for sd in sorted(definitions, key=lambda r: r["id"]):
        if sd["kind"] == "primitive-type":
            for element in sd["snapshot"]["element"]:
                if element["path"].endswith(".value"):
                    for kind in element.get("type", []):
                        for extension in kind.get("extension", []):
                            if extension["url"].endswith("/regex"):
                                primitives[sd["id"]] = extension["valueString"]
            primitives.setdefault(sd["id"], "")
            continue
        if sd["kind"] not in {"resource", "complex-type"} or (
            sd.get("abstract") and sd["id"] not in {"BackboneElement", "Element"}
        ):
            continue
        if sd["kind"] == "resource":
            names.append(sd["id"])
        elements = sd["snapshot"]["element"]
        parents = {e["path"].rsplit(".", 1)[0] for e in elements if "." in e["path"]}
        for element in elements:
            path = element["path"]
            if "." not in path:
                types.setdefault(path, {})
                continue
            parent, name = path.rsplit(".", 1)
            text = "@" + path if path in parents else type_text(element)
            row: list[Any] = [element["min"], 0 if element["max"] == "*" else int(element["max"]), text]
            binding = element.get("binding", {})
            if text == "code" and binding.get("strength") == "required":
                url = binding.get("valueSet", "").split("|")[0]
                codes = codes_of(url, value_sets, systems)
                if codes and len(codes) < 400:
                    bound[url.rsplit("/", 1)[-1]] = codes
                    row.append(url.rsplit("/", 1)[-1])
            types.setdefault(parent, {})[name] = row
            if (
                parent == sd["id"]
                and sd["kind"] == "resource"
                and (element.get("isSummary") or element["min"])
            ):
                summary.setdefault(parent, []).append(name)
    return {"primitives": primitives, "resources": names, "types": types, "codes": bound, "summary": summary}


def split_union(expression: str) -> list[str]:
    """Parts of ``a | b`` outside parentheses."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(expression):
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            parts.append(expression[start:i])
            start = i + 1
    return [p.strip() for p in [*parts, expression[start:]]]


def targets_of(param: dict[str, Any], parts: list[str], types: dict[str, Any]) -> list[str]:
    """Types a reference parameter may lead to (none named: any); what the element cannot hold is an error of the definitions."""
    given: list[str] = param.get("target", [])
    if len(given) > 60:
        return []
    for part in parts:
        rtype, _, name = part.partition(".")
        text = types.get(rtype, {}).get(name, [0, 0, ""])[2]
        allowed = re.match(r"Reference\((.*)\)$", text)
        if allowed and not set(given) & set(allowed[1].split(",")):
            return allowed[1].split(",")
    return given


def search(
    resources: list[dict[str, Any]], names: list[str], old: dict[str, Any], types: dict[str, Any]
) -> dict[str, Any]:
    """Search parameters by type: ``[number, type, [expressions], [targets], [[component, expression]]]``."""
    given = {(t, c): row[0] for t, table in old.items() for c, row in table.items()}
    next_number = max(given.values(), default=0) + 1
    table: dict[str, Any] = {}
    params = [
        r
        for r in resources
        if r["resourceType"] == "SearchParameter" and r.get("expression") and r.get("base")
    ]
    by_url = {p["url"]: p for p in params}
    for param in sorted(params, key=lambda p: p["id"]):
        if param["code"] in {"_id", "_lastUpdated", "_text", "_content"}:
            continue  # the engine's own
        bases = names if param["base"] in (["Resource"], ["DomainResource"]) else param["base"]
        for base in bases:
            union = split_union(param["expression"])
            if len(bases) == 1:  # one expression is written without its type: name | alias
                union = [p if re.match(r"\(?[A-Z]", p) else f"{base}.{p}" for p in union]
            parts = [p for p in union if re.match(rf"\(?({base}|Resource|DomainResource)\b(\.|$)", p)]
            if not parts:
                continue
            if parts == [
                "Bundle.entry[0].resource"
            ]:  # composition and message: the resource itself, of one type
                parts = [f"{parts[0]}.where(resolve() is {param['target'][0]})"]
            targets = targets_of(param, parts, types)
            key = (base, param["code"])
            if key not in given:
                given[key], next_number = next_number, next_number + 1
            row: list[Any] = [given[key], param["type"], parts, targets]
            if param["type"] == "composite":
                row.append(
                    [
                        [by_url[c["definition"]]["code"], c["expression"]]
                        for c in param["component"]
                        if c["definition"] in by_url
                    ]
                )
            table.setdefault(base, {})[param["code"]] = row
    return table


def compartments(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Compartments: code -> type -> search parameters that make a resource part of it (``{def}``: the resource itself)."""
    return {
        r["code"]: {row["code"]: row["param"] for row in r["resource"] if row.get("param")}
        for r in sorted(resources, key=lambda r: str(r.get("code")))
        if r["resourceType"] == "CompartmentDefinition"
        and r["url"].startswith("http://hl7.org/fhir/Comp")
        and "example" not in r["id"]
    }


def write(name: str, table: dict[str, Any]) -> None:
    """One line per top-level type, so that a change can be read in a diff."""
    lines = [
        json.dumps(k) + ":" + json.dumps(v, ensure_ascii=False, separators=(",", ":"))
        for k, v in table.items()
    ]
    (DATA / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Read the package named on the command line; write both tables."""
    resources = load(sys.argv[1])
    shape = structures(resources)
    path = DATA / "search.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write("search.json", search(resources, shape["resources"], old, shape["types"]))
    write("compartments.json", compartments(resources))
    types = shape.pop("types")
    write("structures.json", shape)
    write("elements.json", types)


if __name__ == "__main__":
    main()
