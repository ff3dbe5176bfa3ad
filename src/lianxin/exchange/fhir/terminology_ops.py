"""The terminology operations of the FHIR door, as their R4 OperationDefinitions say.

ValueSet ``$expand`` and ``$validate-code`` · CodeSystem ``$validate-code``, ``$lookup`` and ``$subsumes`` · ConceptMap
``$translate``.  404: the value set, code system, concept map or code asked for is not held.  400: arguments missing or
malformed.  422: it is held, but cannot be answered (not enumerable, too large, circular, not supported).
"""

import uuid
from collections.abc import Iterable
from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty import periodic
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir import terminology_args as args
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record import terminology
from lianxin.record.problems import refuse
from lianxin.record.terminology import Compiled, Concept, Item, System, concepts, grammars, publish, sources
from lianxin.record.terminology.sources import Finder
from lianxin.standards import clock

DEFINITION = "http://hl7.org/fhir/OperationDefinition/"


def register() -> None:
    """Offer the operations at the door; keep the copies of our own tables in the record fresh."""
    for rtype, name, fn, instance in (
        ("ValueSet", "expand", expand, True),
        ("ValueSet", "validate-code", validate_in_value_set, True),
        ("CodeSystem", "validate-code", validate_in_system, True),
        ("CodeSystem", "lookup", lookup, False),
        ("CodeSystem", "subsumes", subsumes, True),
        ("ConceptMap", "translate", translate, True),
    ):
        handlers.register_operation(
            rtype,
            name,
            fn,
            definition=f"{DEFINITION}{rtype}-{name}",
            affects_state=False,
            instance=instance,
        )
    periodic.register("terminology.tables", 600, publish.refresh)


def _parameters(*parts: tuple[str, str, Any] | dict[str, Any] | None) -> Response:
    """A Parameters answer from (name, value[x], value) triples and ready parameters; empty texts are left out."""
    rows = [
        part if isinstance(part, dict) else {"name": part[0], part[1]: part[2]}
        for part in parts
        if part is not None and (isinstance(part, dict) or part[2] not in ("", None))
    ]
    return Response(200, {"resourceType": "Parameters", "parameter": rows})


# ---------------------------------------------------------------------------------------------------------------- $expand


def _value_set(request: Request, finder: Finder) -> tuple[dict[str, Any], str]:
    """The value set asked about, and its canonical when it is held under that ("" when it came with the request)."""
    held = args.instance(request, "ValueSet")
    if held is not None:
        return held, ""
    given = args.given(request, "ValueSet", "valueSet")
    if given is not None:
        return given, ""
    url = args.text(request, "url")
    if not url:
        if request.arguments.get("context"):
            raise refuse(
                422,
                "not-supported",
                "不支持 context，请给出 url",
                "context is not supported; give url",
                "context",
            )
        raise args.missing("url", "请给出 url 或 valueSet", "give url or valueSet")
    version = args.text(request, "valueSetVersion")
    canonical = f"{url}|{version}" if version and "|" not in url else url
    found = finder.resource("ValueSet", canonical) or finder.implicit(canonical)
    if found is None:
        raise refuse(
            404, "not-found", f"没有值集 {canonical[:300]}", f"there is no value set {canonical[:300]}", "url"
        )
    return found, canonical


def _today_only(request: Request) -> None:
    """Definitions are used as they are today: a past date cannot be served."""
    date = args.text(request, "date")
    if date and date[:10] < clock.today().isoformat()[: len(date[:10])]:
        raise refuse(
            422,
            "not-supported",
            "只能按今天的代码系统回答，请去掉 date",
            "only the definitions of today are used; leave date out",
            "Parameters.parameter.where(name='date')",
        )


def _compiled(request: Request, finder: Finder, resource: dict[str, Any], canonical: str) -> Compiled:
    """The value set, compiled with the versions of code systems that the caller wants."""
    forced = dict(sources.split(v) for v in args.texts(request, "force-system-version"))
    default = dict(sources.split(v) for v in args.texts(request, "system-version"))
    if canonical and not forced and not default:
        made = terminology.compiled(canonical, finder=finder)
    else:
        made = terminology.compiled(resource, finder=finder, versions=forced, default_versions=default)
    for wanted in args.texts(request, "check-system-version"):
        system, version = sources.split(wanted)
        if made.systems.get(system, version) != version:
            raise refuse(
                422,
                "processing",
                f"代码系统 {system[:200]} 的版本是 {made.systems[system]}，不是 {version[:60]}",
                f"the version of {system[:200]} is {made.systems[system]}, not {version[:60]}",
                "Parameters.parameter.where(name='check-system-version')",
            )
    return made


def expand(scope: Scope, request: Request) -> Response:
    """ValueSet/$expand: always flat, in the order of the definition, paged by ``offset`` and ``count``."""
    finder = Finder(sources.snapshot)
    resource, canonical = _value_set(request, finder)
    _today_only(request)
    text, language = args.text(request, "filter"), args.text(request, "displayLanguage")
    count, offset = request.argument("count", int), request.argument("offset", int) or 0
    if (count is not None and count < 0) or offset < 0:
        raise args.missing("count", "count 和 offset 不能为负", "count and offset cannot be negative")
    active = bool(request.argument("activeOnly", bool))
    made = _compiled(request, finder, resource, canonical)
    items = terminology.rows_of(made, filter=text, active_only=active)
    without = {sources.split(v)[0] for v in args.texts(request, "exclude-system")}
    if without:
        items = [i for i in items if i.system not in without]
    if request.argument("excludeNotForUI", bool):
        items = [i for i in items if not (i.concept and i.concept.abstract)]
    if count is None and len(items) - offset > terminology.ENOUGH:
        raise terminology.too_many(len(items))
    shown = items[offset:] if count is None else items[offset : offset + count]
    wanted = args.texts(request, "designation")
    names = bool(request.argument("includeDesignations", bool)) or bool(wanted)
    used = [
        ("filter", "valueString", text),
        ("displayLanguage", "valueCode", language),
        ("activeOnly", "valueBoolean", active or None),
        ("includeDesignations", "valueBoolean", names or None),
        ("count", "valueInteger", count),
        ("offset", "valueInteger", offset if count is not None or offset else None),
        *(("exclude-system", "valueUri", system) for system in sorted(without)),
        *(("version", "valueUri", f"{s}|{v}") for s, v in sorted(made.systems.items()) if v),
    ]
    expansion: dict[str, Any] = {
        "identifier": f"urn:uuid:{uuid.uuid4()}",
        "timestamp": clock.now().isoformat(timespec="seconds"),
        "total": len(items),
    }
    if count is not None or offset:
        expansion["offset"] = offset
    if parameter := [{"name": n, kind: v} for n, kind, v in used if v not in ("", None)]:
        expansion["parameter"] = parameter
    if rows := [_contains(item, made, language, names, wanted) for item in shown]:
        expansion["contains"] = rows
    kept = {k: v for k, v in resource.items() if k not in ("text", "expansion", "compose")}
    if request.argument("includeDefinition", bool) and "compose" in resource:
        kept["compose"] = resource["compose"]
    return Response(
        200,
        {**kept, "resourceType": "ValueSet", "status": kept.get("status", "active"), "expansion": expansion},
    )


def _contains(item: Item, made: Compiled, language: str, names: bool, wanted: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"system": item.system} if item.system else {}
    if version := made.systems.get(item.system):
        row["version"] = version
    if item.concept is not None and item.concept.abstract:
        row["abstract"] = True
    if item.inactive:
        row["inactive"] = True
    row["code"] = item.code
    row["display"] = item.display(language)
    if names and (said := [_designation(*d) for d in item.designations() if _asked(d, wanted)]):
        row["designation"] = said
    return row


def _designation(language: str, use: dict[str, Any] | None, value: str) -> dict[str, Any]:
    made: dict[str, Any] = {"language": language} if language else {}
    if use:
        made["use"] = use
    return {**made, "value": value}


def _asked(designation: concepts.Designation, wanted: list[str]) -> bool:
    """Whether a designation is one of those asked for by language or use (``system|code``)."""
    if not wanted:
        return True
    language, use, _ = designation
    for token in wanted:
        system, bar, code = token.rpartition("|")
        if (not bar or system == grammars.LANGUAGES) and code == language:
            return True
        if use and use.get("code") == code and (not bar or use.get("system") == system):
            return True
    return False


# ---------------------------------------------------------------------------------------------------------- $validate-code


def _named(display: str, code: str, concept: Concept | None, own: str) -> tuple[bool, str]:
    """Whether a display is one of the code's names, and what to say if not."""
    if not display or concept is None:
        return True, ""
    names = {own, concept.display, *(v for _, _, v in concept.designations)}
    folded = {" ".join(n.casefold().split()) for n in names}
    if " ".join(display.casefold().split()) in folded:
        return True, ""
    return False, f"代码 {code} 的名称应为“{own}” · the display of {code} should be '{own}'"


def _answer(result: bool, message: str, display: str) -> Response:
    return _parameters(
        ("result", "valueBoolean", result),
        ("message", "valueString", message),
        ("display", "valueString", display),
    )


def _best(answers: Iterable[tuple[bool, str, str]]) -> Response:
    """Of several codings one good one is enough; otherwise everything that is wrong is told."""
    wrong: list[str] = []
    shown = ""
    for result, message, display in answers:
        if result:
            return _answer(True, message, display)
        wrong.append(message)
        shown = shown or display
    return _answer(False, "; ".join(dict.fromkeys(m for m in wrong if m)), shown)


def validate_in_value_set(scope: Scope, request: Request) -> Response:
    """ValueSet/$validate-code."""
    finder = Finder(sources.snapshot)
    resource, canonical = _value_set(request, finder)
    _today_only(request)
    codings = args.codings(request)
    made = _compiled(request, finder, resource, canonical)
    abstract, language = request.argument("abstract", bool), args.text(request, "displayLanguage")
    return _best(_in_value_set(made, coding, abstract, language) for coding in codings)


def _in_value_set(
    made: Compiled, coding: tuple[str, str, str, str], abstract: bool | None, language: str
) -> tuple[bool, str, str]:
    system, code, display, version = coding
    name = made.url or "ValueSet"
    if not system:
        homes = made.bare.get(code, [])
        if len(homes) > 1:
            raise refuse(
                422, "required", f"代码 {code[:80]} 在多个代码系统中，请给出 system",
                f"the code {code[:80]} is in several code systems; give system", "system",
            )  # fmt: skip
        system = homes[0] if homes else ""
    answer = made.member(system or None, code)
    item = made.items.get((system, code))
    if answer is None:
        return (
            False,
            f"本平台未收录代码系统 {system}，无法核对 {code} · the code system {system} is not held here in full, so {code} cannot be checked",
            "",
        )
    if not answer:
        return False, f"{name} 不含代码 {system}#{code} · the code {system}#{code} is not in {name}", ""
    held = made.systems.get(system, "")
    if version and held and version != held:
        return (
            False,
            f"代码系统 {system} 的版本是 {held}，不是 {version} · the version of {system} is {held}, not {version}",
            "",
        )
    if item is None:  # known by grammar, or written in another case
        found = terminology.lookup(system, code)
        own = found.display if found else ""
        return (*_named(display, code, found, own), own)
    own = item.display(language)
    if abstract is False and item.concept is not None and item.concept.abstract:
        return False, f"代码 {code} 是抽象的，不能选用 · the code {code} is abstract", own
    concept = item.concept or Concept(code, own, designations=item.designations())
    good, message = _named(display, code, concept, own)
    return good, message, own


def _system(url: str, version: str = "", *, place: str = "system") -> System | None:
    """A code system held, or None when it is known by its grammar; 404 otherwise."""
    found = terminology.system_of(url, version)
    if found is None and (grammars.test(url) is None or version):
        name = f"{url}|{version}" if version else url
        raise refuse(
            404, "not-found", f"没有代码系统 {name[:300]}", f"there is no code system {name[:300]}", place
        )
    return found


def validate_in_system(scope: Scope, request: Request) -> Response:
    """CodeSystem/$validate-code."""
    _today_only(request)
    given = args.instance(request, "CodeSystem") or args.given(request, "CodeSystem", "codeSystem")
    url = str((given or {}).get("url") or "") or args.text(request, "url", "system")
    codings = args.codings(request)
    if given is None and not url:
        url = next((c[0] for c in codings if c[0]), "")
        if not url:
            raise args.missing("url", "请给出 url 或 codeSystem", "give url or codeSystem")
    version = args.text(request, "version")
    system = concepts.from_resource(given) if given else _system(url, version, place="url")
    abstract, language = request.argument("abstract", bool), args.text(request, "displayLanguage")
    return _best(_in_system(url, system, coding, abstract, language) for coding in codings)


def _in_system(
    url: str, system: System | None, coding: tuple[str, str, str, str], abstract: bool | None, language: str
) -> tuple[bool, str, str]:
    home, code, display, version = coding
    if home and home != url:
        return False, f"system 应为 {url} · the system must be {url}", ""
    if system is None:
        test = grammars.test(url)
        good = test is not None and test(code)
        return (
            (True, "", grammars.display(url, code))
            if good
            else (False, f"{url} 没有代码 {code} · there is no code {code} in {url}", "")
        )
    if version and system.version and version != system.version:
        return (
            False,
            f"代码系统的版本是 {system.version}，不是 {version} · the version is {system.version}, not {version}",
            "",
        )
    concept = system.find(code)
    if concept is None:
        if not system.complete:
            return (
                False,
                f"代码系统 {url} 未完整收录，无法核对 {code} · the code system {url} is not held in full, so {code} cannot be checked",
                "",
            )
        return False, f"{url} 没有代码 {code} · there is no code {code} in {url}", ""
    own = concept.named(language, system.language)
    if abstract is False and concept.abstract:
        return False, f"代码 {code} 是抽象的，不能选用 · the code {code} is abstract", own
    good, message = _named(display, code, concept, own)
    return good, message, own


# ------------------------------------------------------------------------------------------------------ $lookup, $subsumes


def lookup(scope: Scope, request: Request) -> Response:
    """CodeSystem/$lookup: names in every language, properties, parents and children."""
    _today_only(request)
    url, code, _, version = args.codings(request)[0]
    if not url:
        raise args.missing("system", "请给出 system", "give system")
    system = _system(url, version)
    concept = system.find(code) if system else terminology.lookup(url, code)
    if concept is None:
        raise refuse(
            404,
            "not-found",
            f"{url[:200]} 没有代码 {code[:80]}",
            f"there is no code {code[:80]} in {url[:200]}",
            "code",
        )
    wanted = set(args.texts(request, "property"))
    language = args.text(request, "displayLanguage")
    if system is None:
        return _parameters(
            ("name", "valueString", grammars.NAMES[url]), ("display", "valueString", concept.display)
        )
    parts: list[Any] = [
        ("name", "valueString", system.title or system.name or url),
        ("version", "valueString", system.version),
        ("display", "valueString", concept.named(language, system.language)),
    ]
    if not wanted or "designation" in wanted or any(w.startswith("lang.") for w in wanted):
        parts += _designations(
            concept, system, {w.removeprefix("lang.") for w in wanted if w.startswith("lang.")}
        )
    parts += [p for p in _properties(concept, system) if not wanted or p["part"][0]["valueCode"] in wanted]
    return _parameters(*parts)


def _designations(concept: Concept, system: System, languages: set[str]) -> list[dict[str, Any]]:
    names = [(system.language, None, concept.display), *concept.designations]
    rows = []
    for language, use, value in names:
        if languages and language not in languages:
            continue
        parts: list[dict[str, Any]] = [{"name": "language", "valueCode": language}] if language else []
        if use:
            parts.append({"name": "use", "valueCoding": use})
        rows.append({"name": "designation", "part": [*parts, {"name": "value", "valueString": value}]})
    return rows


def _properties(concept: Concept, system: System) -> list[dict[str, Any]]:
    rows = [_property("definition", "valueString", concept.definition)] if concept.definition else []
    for name, codes in (("parent", concept.parents), ("child", concept.children)):
        for code in codes:
            other = system.concepts.get(code)
            rows.append(_property(name, "valueCode", code, other.display if other else ""))
    rows += [
        _property(code, kind, value)
        for code, kind, value in concept.properties
        if code not in ("parent", "child", "subsumedBy")
    ]
    held = {code for code, _, _ in concept.properties}
    if "inactive" not in held:
        rows.append(_property("inactive", "valueBoolean", concept.inactive))
    return rows


def _property(code: str, kind: str, value: Any, description: str = "") -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "code", "valueCode": code}, {"name": "value", kind: value}]
    if description:
        parts.append({"name": "description", "valueString": description})
    return {"name": "property", "part": parts}


def subsumes(scope: Scope, request: Request) -> Response:
    """CodeSystem/$subsumes."""
    held = args.instance(request, "CodeSystem")
    sides: list[tuple[str, str, str]] = []
    for letter in "AB":
        coding = request.argument(f"coding{letter}", dict) if request.arguments.get(f"coding{letter}") else {}
        code = str(coding.get("code") or "") or args.text(request, f"code{letter}")
        if not code:
            raise args.missing(f"code{letter}", f"请给出 code{letter}", f"give code{letter}")
        sides.append((str(coding.get("system") or ""), code, str(coding.get("version") or "")))
    url = str((held or {}).get("url") or "") or args.text(request, "system") or sides[0][0] or sides[1][0]
    if not url:
        raise args.missing("system", "请给出 system", "give system")
    if any(system and system != url for system, _, _ in sides):
        raise refuse(
            422,
            "not-supported",
            "两个代码须属于同一代码系统",
            "both codes must belong to one code system",
            "Parameters.parameter.where(name='system')",
        )
    version = args.text(request, "version") or sides[0][2] or sides[1][2]
    system = concepts.from_resource(held) if held else _system(url, version)
    for letter, (_, code, _) in zip("AB", sides, strict=True):
        test = grammars.test(url)
        if not (system.find(code) if system else test and test(code)):
            raise refuse(
                422, "code-invalid", f"{url[:200]} 没有代码 {code[:80]}", f"there is no code {code[:80]} in {url[:200]}", f"code{letter}"
            )  # fmt: skip
    if system is None:
        outcome = "equivalent" if sides[0][1] == sides[1][1] else "not-subsumed"
    else:
        outcome = system.relation(sides[0][1], sides[1][1]) or "not-subsumed"
    return _parameters(("outcome", "valueCode", outcome))


# -------------------------------------------------------------------------------------------------------------- $translate


def translate(scope: Scope, request: Request) -> Response:
    """ConceptMap/$translate."""
    held = args.instance(request, "ConceptMap") or args.given(request, "ConceptMap", "conceptMap")
    url, version = args.text(request, "url"), args.text(request, "conceptMapVersion")
    target_system = args.text(request, "targetsystem", "targetSystem")
    source, target = _value_set_url(request, "source"), _value_set_url(request, "target")
    codings = args.codings(request)
    if not (held or url or target or target_system or source):
        raise args.missing(
            "url",
            "请给出 url、conceptMap、source、target 或 targetsystem",
            "give url, conceptMap, source, target or targetsystem",
        )
    found = []
    for system, code, _, _ in codings:
        if not system:
            raise args.missing("system", "请给出 system", "give system")
        found += terminology.translate(
            system,
            code,
            map_url=f"{url}|{version}" if url and version and "|" not in url else url,
            given=held,
            target_system=target_system,
            source=source,
            target=target,
            reverse=bool(request.argument("reverse", bool)),
            dependencies=_dependencies(request),
        )
    good = any(match.good for match in found)
    message = ""
    if not good:
        names = ", ".join(f"{s}#{c}" for s, c, _, _ in codings)[:600]
        message = f"没有 {names} 的对应代码 · there is no translation of {names}"
    return _parameters(
        ("result", "valueBoolean", good),
        ("message", "valueString", message),
        *(_match(match) for match in found),
    )


def _match(match: terminology.Match) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    if match.code:
        coding = {"system": match.system, "code": match.code, "display": match.display}
        parts.append({"name": "concept", "valueCoding": {k: v for k, v in coding.items() if v}})
    for row in match.products:
        product = {"system": row.get("system"), "code": row.get("value"), "display": row.get("display")}
        parts.append(
            {
                "name": "product",
                "part": [
                    {"name": "element", "valueUri": str(row.get("property") or "")},
                    {"name": "concept", "valueCoding": {k: v for k, v in product.items() if v}},
                ],
            }
        )
    if match.map:
        parts.append({"name": "source", "valueUri": match.map})
    return {"name": "match", "part": parts}


def _value_set_url(request: Request, name: str) -> str:
    """A value set named by its canonical url or as ``ValueSet/id``."""
    given = args.text(request, name)
    local = given.removeprefix(f"{request.base}/").removeprefix("ValueSet/")
    if given and local != given and "/" not in local:
        found = sources.by_id("ValueSet", local)
        return str((found or {}).get("url") or given)
    return given


def _dependencies(request: Request) -> tuple[tuple[str, str], ...]:
    """The ``dependency`` arguments as (element, code)."""
    found = []
    for one in request.arguments.get("dependency", []):
        element = (
            next((e for e in one.get("element", []) if isinstance(e, str)), "")
            if isinstance(one, dict)
            else ""
        )
        for concept in one.get("concept", []) if isinstance(one, dict) else []:
            for coding in concepts.dicts(concept, "coding"):
                if element and coding.get("code"):
                    found.append((element, str(coding["code"])))
    return tuple(found)
