"""A mapping's sheet becomes closures: one getter for every element, looked up once, run for every message.

What cannot be compiled is told with its line and key, all of it at once (:class:`~.reading.Faulty`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.mapping import language
from lianxin.exchange.v2.mapping.groups import TOP, Env, Group, Run
from lianxin.exchange.v2.mapping.language import Call, Const, Either, Path, Test, Unreadable, Var
from lianxin.exchange.v2.mapping.made import MERGE, ONCE, REPLACE, Manner
from lianxin.exchange.v2.mapping.reading import Fault, Faulty, Key, Sheet
from lianxin.exchange.v2.mapping.tables import Tables
from lianxin.record import definitions
from lianxin.standards.text import T, Text

Get = Callable[[Env], Any]
Maker = Callable[["Compiler", tuple[Any, ...]], Get]
NAMESPACE = bytes.fromhex("6c69616e78696e2d763261703a6d6170")
"""The namespace of the ids (uuid5) of everything that came by HL7 v2."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RULE = frozenset({"each", "when", "id", "set", "manner", "union", "weak", "remove"})

functions: dict[str, Maker] = {}
"""The table of functions; :mod:`.functions` and its neighbours fill it."""


def function(name: str) -> Callable[[Maker], Maker]:
    """Enter a function in the table."""

    def enter(maker: Maker) -> Maker:
        functions[name] = maker
        return maker

    return enter


@dataclass
class Rule:
    """One kind of resource that is made: where, when, under which id, of which elements."""

    key: str
    rtype: str
    each: tuple[str, ...]
    when: Get | None
    ids: list[list[tuple[Get, bool]]]
    elements: list[tuple[str, Get, bool, Path | None]]
    manner: Manner


def clean(text: str) -> str:
    """A value as it may be stored: no control characters, no blanks around it."""
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text.strip()


class Compiler:
    """Compiles one sheet for one event."""

    def __init__(self, sheet: Sheet, tables: Tables, variables: dict[str, str]) -> None:
        self.sheet, self.tables, self.variables = sheet, tables, variables
        self.faults: list[Fault] = []
        self.key: Key = ()
        self.read: set[tuple[str, int]] = set()
        self.touched: set[str] = set()
        self.settings: dict[str, str] = {
            k: str(v) for k, v in (sheet.data.get("settings") or {}).items() if v is not None
        }
        self.moved: dict[str, Any] = {}
        for source, target in (sheet.data.get("moved") or {}).items():
            self.key = ("moved", source)
            try:
                found = language.value(str(target))
                if not language.paths(found):
                    raise Unreadable(T("应为字段，如 ORC-3。", "It should be a field such as ORC-3."))
                self.moved[str(language.path_of(source))] = found
            except Unreadable as fault:
                self.fault(fault.text)

    def fault(self, text: Text, key: Key | None = None) -> None:
        """Remember what is wrong at the key that is being compiled."""
        self.faults.append(self.sheet.fault(key or self.key, text))

    def reads(self, segment: str, field: int) -> None:
        """Remember that the mapping reads a field."""
        self.read.add((segment, field))
        self.touched.add(segment)

    def inside(self) -> None:
        """What is being compiled looks at the group itself: it is not the same for all groups of an outer one."""
        self.touched.add("*")

    def shared(self, make: Callable[[], Get | None], outer: frozenset[str] | None) -> Get | None:
        """A getter; when it reads ``outer`` segments alone it is worked out once for all the groups inside those."""
        self.touched = set()
        get = make()
        if get is None or outer is None or not self.touched or not self.touched <= outer:
            return get
        inner: Get = get
        number = id(inner)

        def get_once(env: Env) -> Any:
            above = env.parent
            if above is None:
                return inner(env)
            memo = above.memo
            if number in memo:
                return memo[number]
            made = memo[number] = inner(above)
            return made

        return get_once

    # -- expressions ---------------------------------------------------------------------------------------------------

    def where(self, path: Path) -> Any:
        """Where a path is really read: as the sender's mapping moves it."""
        if not self.moved:
            return path
        exact = self.moved.get(str(path))
        if exact is not None:
            return exact
        whole = self.moved.get(str(Path(path.segment, path.field)))
        if whole is None or not path.field:
            return path
        return _narrow(whole, path)

    def raw(self, node: Any, moved: bool = True) -> Get:
        """A field as it was sent, of the first path that is not empty."""
        if isinstance(node, Path):
            found = self.where(node) if moved else node
            if found is not node:
                return self.raw(found, moved=False)
            self.reads(node.segment, node.field)
            name, n, component = node.segment, node.field, node.component
            if component:
                return self.text(node, moved=False)

            def get(env: Env) -> str:
                segment = env.one.get(name)
                if segment is None:
                    return ""
                fields = segment.fields
                if n >= len(fields):
                    return ""
                given = fields[n]
                return "" if given == '""' else given

            return get
        if isinstance(node, Either):
            return first([self.raw(part, moved) for part in node.of])
        return self.text(node)

    def text(self, node: Any, moved: bool = True) -> Get:
        """A value as text, unescaped: component 1 of the first repetition when the path names none."""
        if isinstance(node, Const):
            constant = node.text
            return lambda env: constant
        if isinstance(node, Var):
            value = self.variable(node)
            return lambda env: value
        if isinstance(node, Path):
            found = self.where(node) if moved else node
            if found is not node:
                return self.text(found, moved=False)
            return self._text(node)
        if isinstance(node, Either):
            return first([self.text(part, moved) for part in node.of])
        if isinstance(node, Call):
            return self.call(node)
        raise Unreadable(T("这里应为取值。", "A value is expected here."))

    def variable(self, node: Var) -> str:
        """A value that hangs on the event ("" when this event has none)."""
        return self.variables.get(node.name, "")

    def _text(self, path: Path) -> Get:
        name, n, component, sub = path.segment, path.field, path.component or 1, path.sub or 1
        if not n:
            self.reads(name, 0)
            return lambda env: name if name in env.one else ""
        self.reads(name, n)
        simple = component == 1 and sub == 1

        def get(env: Env) -> str:
            segment = env.one.get(name)
            if segment is None:
                return ""
            fields = segment.fields
            if n >= len(fields):
                return ""
            given = fields[n]
            if not given or given.isalnum():
                return given if simple else ""
            if not env.run.usual or "\\" in given:
                return clean(segment.text(n, component, sub))
            if "~" in given:
                given = given.split("~", 1)[0]
            if "^" in given:
                parts = given.split("^", component)
                given = parts[component - 1] if component <= len(parts) else ""
            elif component != 1:
                return ""
            if "&" in given:
                parts = given.split("&", sub)
                given = parts[sub - 1] if sub <= len(parts) else ""
            elif sub != 1:
                return ""
            return "" if given == '""' else clean(given)

        return get

    def call(self, node: Call) -> Get:
        """A function of the table."""
        maker = functions.get(node.name)
        if maker is None:
            raise Unreadable(
                T("没有名为“{n}”的函数。", "There is no function “{n}”.").format(n=node.name[:40])
            )
        try:
            return maker(self, node.args)
        except (IndexError, TypeError, AttributeError, KeyError) as error:
            raise self._unfit(node) from error
        except ValueError as error:
            raise (error if isinstance(error, Unreadable) else self._unfit(node)) from error

    def _unfit(self, node: Call) -> Unreadable:
        return Unreadable(
            T("函数 {f} 的参数不对。", "The arguments of {f} do not fit it.").format(f=node.name[:40])
        )

    def constants(self, args: Iterable[Any]) -> list[str]:
        """Arguments that must be constants."""
        out = []
        for arg in args:
            if isinstance(arg, Var):
                out.append(self.variable(arg))
            elif isinstance(arg, Const):
                out.append(arg.text)
            else:
                raise Unreadable(T("这一参数应为常量。", "This argument must be a constant."))
        return out

    def condition(self, node: Any) -> Get:
        """A condition."""
        if not isinstance(node, Test):
            text = self.text(node)
            return lambda env: bool(text(env))
        if node.op == "not":
            inner = self.condition(node.of[0])
            return lambda env: not inner(env)
        if node.op == "is":
            left, right = self.text(node.of[0]), self.text(node.of[1])
            return lambda env: left(env) == right(env)
        if node.op == "among":
            value, words = self.text(node.of[0]), frozenset(node.of[1])
            return lambda env: value(env) in words
        parts = [self.condition(part) for part in node.of]
        if node.op == "and":
            return lambda env: all(part(env) for part in parts)
        return lambda env: any(part(env) for part in parts)

    # -- elements ------------------------------------------------------------------------------------------------------

    def element(self, value: Any, key: Key) -> Get | None:
        """The getter of an element; None for what is left out."""
        self.key = key
        try:
            if isinstance(value, str):
                return self._scalar(value)
            if isinstance(value, bool):
                return lambda env: value
            if isinstance(value, dict):
                return self._object(value, key)
            if isinstance(value, list):
                made = [self.element(one, (*key, str(n))) for n, one in enumerate(value)]
                parts = [one for one in made if one is not None]
                return lambda env: _flat([part(env) for part in parts])
        except Unreadable as fault:
            self.fault(fault.text, key)
        return None

    def _scalar(self, value: str) -> Get:
        if not language.is_expression(value):
            return lambda env: value
        node = language.value(value)
        return self.call(node) if isinstance(node, Call) else self.either(node)

    def either(self, node: Any) -> Get:
        """Alternatives of any kind: the first that says something."""
        if isinstance(node, Either):
            return first([self.call(p) if isinstance(p, Call) else self.text(p) for p in node.of])
        return self.text(node)

    def _object(self, value: dict[str, Any], key: Key) -> Get:
        """An object: nothing unless something in it says something and everything that it needs (``name!``) is there."""
        if "choose" in value:
            return self._choice(value["choose"], (*key, "choose"))
        when = self.condition(language.condition(str(value["when"]))) if "when" in value else None
        parts: list[tuple[str, Get, bool, bool]] = []
        for name, inner in value.items():
            if name == "when":
                continue
            get = self.element(inner, (*key, name))
            if get is not None:
                parts.append((name.rstrip("!"), get, not _constant(inner), name.endswith("!")))
        constant = not any(says for _, _, says, _ in parts)

        def get_object(env: Env) -> dict[str, Any] | None:
            if when is not None and not when(env):
                return None
            made: dict[str, Any] = {}
            said = constant
            for name, part, says, needed in parts:
                v = part(env)
                if v or v is False or v.__class__ is int:
                    made[name] = v
                    said = said or says
                elif needed:
                    return None
            return made if said and made else None

        return get_object

    def _choice(self, given: Any, key: Key) -> Get:
        """``choose``: the first of a list whose ``when`` holds, as its ``use`` says."""
        if not isinstance(given, list) or not all(isinstance(one, dict) and "use" in one for one in given):
            raise Unreadable(T("choose 应为“when、use”的列表。", "“choose” is a list of “when” and “use”."))
        cases: list[tuple[Get | None, Get]] = []
        for n, one in enumerate(given):
            when = self.condition(language.condition(str(one["when"]))) if "when" in one else None
            use = self.element(one["use"], (*key, str(n), "use"))
            if use is not None:
                cases.append((when, use))

        def get_choice(env: Env) -> Any:
            for when, use in cases:
                if when is None or when(env):
                    found = use(env)
                    if found:
                        return found
            return None

        return get_choice

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rules(self, groups: Group) -> list[Rule]:
        """Every rule of the sheet."""
        out = []
        for name, body in (self.sheet.data.get("resources") or {}).items():
            if body is None:
                continue  # a sender's mapping takes it away
            self.key = ("resources", name)
            if not isinstance(body, dict):
                self.fault(T("应为“键: 值”。", "“key: value” is expected here."))
                continue
            made = self._rule(name, body, groups)
            if made is not None:
                out.append(made)
        return out

    def _rule(self, name: str, body: dict[str, Any], groups: Group) -> Rule | None:
        key: Key = ("resources", name)
        rtype = name.split("/")[0]
        if rtype not in definitions.types():
            self.fault(T("FHIR R4 没有资源“{r}”。", "FHIR R4 has no resource {r}.").format(r=rtype[:40]))
            return None
        for word in body:
            if word not in _RULE:
                said = T("不认识的键“{k}”；可用：{o}。", "Unknown key “{k}”; there are: {o}.")
                self.fault(said.format(k=word[:40], o=", ".join(sorted(_RULE))), (*key, word))
        each = tuple(str(body.get("each") or "").replace(".", " ").split())
        here, around = groups, groups
        for step in each:
            around = here
            found = next((g for g in here.inside if g.name == step), None)
            if found is None:
                self.fault(
                    T("没有名为“{g}”的段组。", "There is no group “{g}”.").format(g=step[:40]), (*key, "each")
                )
                return None
            here = found
        when = (
            self._try(lambda: self.condition(language.condition(str(body["when"]))), (*key, "when"))
            if body.get("when")
            else None
        )
        outer = TOP | frozenset(around.opens) if len(each) > 1 else None
        elements = self._elements(rtype, body.get("set"), key, outer)
        ids = self._ids(body.get("id"), (*key, "id"), outer)
        return Rule(name, rtype, each, when, ids, elements, self._manner(body, key))

    def _try(self, make: Callable[[], Any], key: Key) -> Any:
        self.key = key
        try:
            return make()
        except Unreadable as fault:
            self.fault(fault.text, key)
            return None

    def _elements(
        self, rtype: str, given: Any, key: Key, outer: frozenset[str] | None
    ) -> list[tuple[str, Get, bool, Path | None]]:
        if not isinstance(given, dict):
            self.fault(T("缺少 set。", "“set” is missing."), key)
            return []
        known = definitions.elements(rtype)
        out = []
        for name, value in given.items():
            here = (*key, "set", name)
            plain = name.rstrip("!")
            if plain != "+" and not _is_element(plain, known):
                self.fault(
                    T("{r} 没有元素“{e}”。", "{r} has no element “{e}”.").format(r=rtype, e=plain[:40]), here
                )
                continue
            if value is None:
                continue
            get = self.shared(partial(self.element, value, here), outer)
            if get is not None:
                if plain in known and known[plain][1] == 0:
                    get = _listed(get)
                out.append((plain, get, name.endswith("!"), self._first_path(value)))
        return out

    def _first_path(self, value: Any) -> Path | None:
        """Where a person looks for what is missing."""
        if isinstance(value, str) and language.is_expression(value):
            try:
                return next(iter(language.paths(language.value(value))), None)
            except Unreadable:
                return None
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return next((p for p in map(self._first_path, inner) if p), None)
        return None

    def _ids(self, given: Any, key: Key, outer: frozenset[str] | None) -> list[list[tuple[Get, bool]]]:
        lines = given if isinstance(given, list) else [given] if given else []
        if not lines:
            self.fault(T("缺少 id。", "“id” is missing."), key)
        out = []
        for n, line in enumerate(lines):
            parts = []
            for part in re.split(r",(?![^()]*\))", str(line)):
                optional = part.strip().endswith("?")
                make = partial(self._try, partial(self._part, part.strip().rstrip("?")), (*key, str(n)))
                get = self.shared(make, outer)
                if get is not None:
                    parts.append((get, optional))
            out.append(parts)
        return out

    def _part(self, text: str) -> Get:
        if text == "patient":
            return lambda env: env.run.patient
        if text == "control":
            return lambda env: env.run.mark
        if text == "n":
            self.inside()
            return lambda env: str(env.place)
        return self.text(language.value(text))

    def _manner(self, body: dict[str, Any], key: Key) -> Manner:
        mode = body.get("manner") or REPLACE
        if isinstance(mode, str) and mode.startswith("$"):
            mode = self.variables.get(mode[1:], REPLACE)
        if mode not in (REPLACE, MERGE, ONCE):
            self.fault(
                T("manner 应为 replace、merge 或 once。", "“manner” is replace, merge or once."),
                (*key, "manner"),
            )
        return Manner(str(mode), *(self._words(body.get(word)) for word in ("union", "weak", "remove")))

    def _words(self, given: Any) -> tuple[str, ...]:
        if given is None:
            return ()
        if isinstance(given, list):
            return tuple(map(str, given))
        text = str(given)
        return tuple((self.variables.get(text[1:], "") if text.startswith("$") else text).split())


def _flat(values: list[Any]) -> list[Any]:
    """What is said, lists within the list laid out."""
    out: list[Any] = []
    for value in values:
        if value.__class__ is list:
            out += value
        elif value:
            out.append(value)
    return out


def _listed(get: Get) -> Get:
    """An element that repeats: one value is a list of one."""

    def get_list(env: Env) -> Any:
        found = get(env)
        return found if not found or found.__class__ is list else [found]

    return get_list


def _constant(value: Any) -> bool:
    """Whether an element says the same in every message."""
    if isinstance(value, str):
        return not language.is_expression(value)
    if isinstance(value, dict):
        return all(_constant(v) for k, v in value.items() if k != "when")
    return all(map(_constant, value)) if isinstance(value, list) else True


def _is_element(name: str, known: dict[str, Any]) -> bool:
    if name in known or name in (
        "extension",
        "modifierExtension",
        "contained",
        "meta",
        "text",
        "language",
        "identifier[x]",
    ):
        return True
    return any(k.endswith("[x]") and name.startswith(k[:-3]) for k in known)


def _narrow(target: Any, path: Path) -> Any:
    """A field that was moved as a whole, at the component that is asked for."""
    if isinstance(target, Path):
        return target if target.component else Path(target.segment, target.field, path.component, path.sub)
    if isinstance(target, Either):
        return Either(tuple(_narrow(part, path) for part in target.of))
    return target


def first(parts: list[Get]) -> Get:
    """The first getter that says something."""
    if len(parts) == 2:
        one, two = parts
        return lambda env: one(env) or two(env)

    def get(env: Env) -> Any:
        for part in parts:
            found = part(env)
            if found:
                return found
        return found

    return get


def missing(env: Env, rule: Rule, name: str, path: Path | None) -> Refused:
    """The refusal of a message that lacks what a resource cannot do without."""
    place = place_of(env, path) if path else Place("MSH")
    return Refused(
        errors.REQUIRED,
        T(
            "缺少 {p}（{r} 的 {e} 所需），或其取值无效。", "{p} is missing or not valid; {e} of {r} needs it."
        ).format(p=str(place), r=rule.rtype, e=name),
        place,
    )


def place_of(env: Env, path: Path) -> Place:
    """Where a path stands in the message, with the number of its segment."""
    segment = env.one.get(path.segment)
    number = 1
    if segment is not None:
        for other in env.run.message.segments:
            if other is segment:
                break
            number += other.name == path.segment
    return Place(path.segment, number, path.field, path.component)


def identity(run: Run, rtype: str, parts: Iterable[str]) -> str:
    """The id (uuid5) of what an institution knows under a number; a second one of the same number in a message counts on."""
    name = f"{run.context.institution_id}|{rtype}|{'|'.join(parts)}"
    n = run.counts[name] = run.counts.get(name, 0) + 1
    return _uuid5(name if n == 1 else f"{name}#{n}")


def _uuid5(name: str) -> str:
    digest = bytearray(hashlib.sha1(NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    h = digest.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def checked(compiler: Compiler) -> None:
    """Raise what was found wrong."""
    if compiler.faults:
        raise Faulty(sorted(compiler.faults, key=lambda f: f.line))


__all__ = [
    "Compiler",
    "Get",
    "Rule",
    "checked",
    "clean",
    "first",
    "function",
    "functions",
    "identity",
    "missing",
    "place_of",
]
