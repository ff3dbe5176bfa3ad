"""A compiled mapping: a message in, resources out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.mapping import (
    functions,
    functions_events,
    functions_people,
    functions_reports,
    functions_values,
    groups,
    sheets,
    tables,
)
from lianxin.exchange.v2.mapping.compiler import Compiler, Rule, checked, identity, missing
from lianxin.exchange.v2.mapping.groups import Env, Run
from lianxin.exchange.v2.mapping.made import Context, Manner, Mapped
from lianxin.exchange.v2.mapping.reading import Faulty, Sheet
from lianxin.exchange.v2.mapping.tables import Tables
from lianxin.exchange.v2.message import USUAL, Message
from lianxin.standards.text import T, Text

FUNCTIONS = (functions, functions_events, functions_people, functions_reports, functions_values)
"""The modules that fill the table of functions."""


@dataclass(frozen=True)
class PatientSettings:
    """What reading the patient needs to know of a sender: the field of its local number, its codes of the sexes."""

    number_field: int
    sexes: dict[str, str]

    def sex(self, given: str) -> str:
        """FHIR's word for a sender's code of the sex; "" when it says nothing, ``unknown`` when nobody knows the code."""
        plain = tables.folded(given)
        return self.sexes.get(plain, "unknown") if plain else ""


class Mapping:
    """One mapping, compiled for one event of one sender. Safe to use from many threads."""

    def __init__(
        self, name: str, event: tuple[str, str], layers: Sequence[tuple[str, Sheet]], version: str
    ) -> None:
        base = sheets.built_in()[name]
        self.name, self.event, self.version = name, event, version
        found = Tables(tables.built_in().tables)
        faults = found.lay(base)
        sheet = base
        for _, layer in layers:
            sheet = sheets.laid(sheet, layer)
            faults += found.lay(layer)
        variables = sheet.data["events"].get("^".join(event)) or {}
        if not isinstance(variables, dict):
            raise Faulty([sheet.fault(("events",), T("应为“键: 值”。", "“key: value” is expected here."))])
        compiler = Compiler(sheet, found, {k: str(v) for k, v in variables.items() if v is not None})
        compiler.faults += faults
        self.top = sheets.top_group(base)
        self.rules: list[Rule] = compiler.rules(self.top)
        self.variables = compiler.variables
        self.settings = compiler.settings
        self.patient = _patient_settings(compiler, found)
        checked(compiler)
        self.known = _known(compiler, sheet)
        self.sheet = sheet

    def resources(self, message: Message, patient_reference: str, context: Context) -> Mapped:
        """The resources of a message. Raises :class:`Refused` alone: what is missing or cannot be told apart, and where."""
        marks = message.separators
        run = Run(
            message,
            context,
            patient_reference,
            marks == USUAL,
            self.variables,
            mark=context.control or f"{message.text('MSH', 3)}|{message.control_id}",
        )
        root = groups.split(run, self.top)
        if len(root.every.get("PID", ())) > 1 and "MRG" not in root.one:
            raise Refused(
                errors.SEQUENCE,
                T(
                    "一条消息只能有一位患者，请按患者分开发送。",
                    "A message is about one patient; send one message for each.",
                ),
                Place("PID", 2),
            )
        out = Mapped(version=self.version)
        for rule in self.rules:
            for env in _envs(root, rule.each):
                _make(rule, env, out)
        self._leftover(run)
        out.warnings = list(run.warnings.values())
        return out

    def _leftover(self, run: Run) -> None:
        """Tell what this mapping does not read: whole segments, and single fields, each once."""
        strange: dict[str, int] = {}
        fields: dict[str, None] = {}
        known = self.known
        for segment in run.message.segments:
            read = known.get(segment.name)
            if read is None:
                strange[segment.name] = strange.get(segment.name, 0) + 1
            elif 0 not in read:
                for n, value in enumerate(segment.fields):
                    if value and n not in read and n and value != '""':
                        fields[f"{segment.name}-{n}"] = None
        for name, count in strange.items():
            said = T(
                "未映射的段 {s}（{n} 个），仅保存在原文中。",
                "The segment {s} ({n}) is not mapped; it is kept in the message only.",
            )
            functions.warn(run, said.format(s=name[:3], n=count))
        if fields:
            shown = ", ".join(list(fields)[:30])
            said = T("未映射的字段 {f}，仅保存在原文中。", "Not mapped, kept in the message only: {f}.")
            functions.warn(run, said.format(f=shown))


def _envs(root: Env, each: tuple[str, ...]) -> list[Env]:
    here = [root]
    for step in each:
        if len(here) == 1:
            here = here[0].kids.get(step) or []
        else:
            here = [kid for env in here for kid in env.kids.get(step, ())]
    return here


def _make(rule: Rule, env: Env, out: Mapped) -> None:
    if rule.when is not None and not rule.when(env):
        return
    run = env.run
    parts = _number(rule, env)
    if parts is None:
        said = T("没有可用的编号，{r} 未生成。", "There is no number to know a {r} by; none was made.")
        functions.warn(run, said.format(r=rule.rtype))
        return
    body: dict[str, Any] = {"resourceType": rule.rtype, "id": identity(run, rule.rtype, parts)}
    value: Any
    for name, get, needed, path in rule.elements:
        value = get(env)
        kind = value.__class__
        if value or kind is bool or kind is int:  # 0 and false say something
            if name[-1] == "]":
                body[f"{name[:-3]}{value[0]}"] = value[1]
            elif name == "+":
                body.update(value)
            else:
                body[name] = value
        elif needed:
            raise missing(env, rule, name, path)
    out.resources.append(body)
    out.manners.append(rule.manner)
    reference = {"reference": f"{rule.rtype}/{body['id']}"}
    here: Env | None = env
    while here is not None:
        here.made.setdefault(rule.key, []).append(reference)
        here = here.parent


def _number(rule: Rule, env: Env) -> list[str] | None:
    for n, line in enumerate(rule.ids):
        parts = [str(n)] if n else []
        for get, optional in line:
            found = get(env)
            if not found and not optional:
                break
            parts.append(found)
        else:
            return parts
    return None


def _patient_settings(compiler: Compiler, found: Tables) -> PatientSettings:
    field = compiler.settings.get("patient_number", "PID-3")
    if field not in ("PID-2", "PID-3", "PID-4"):
        compiler.fault(
            T("应为 PID-2、PID-3 或 PID-4。", "It is PID-2, PID-3 or PID-4."), ("settings", "patient_number")
        )
        field = "PID-3"
    sexes = found.get("sex")
    return PatientSettings(int(field[4:]), dict(sexes.codes) if sexes else {})


def _known(compiler: Compiler, sheet: Sheet) -> dict[str, frozenset[int]]:
    """Fields that are read, or left out on purpose (``ignore``: ``SEG: all`` or numbers)."""
    known: dict[str, set[int]] = {}
    for segment, field in compiler.read:
        known.setdefault(segment, set()).add(field or -1)
    for segment, fields in (sheet.data.get("ignore") or {}).items():
        words = str(fields or "").split()
        known.setdefault(segment, set()).update(
            {0} if "all" in words else {int(w) for w in words if w.isdigit()}
        )
    return {k: frozenset(v) for k, v in known.items()}


__all__ = ["FUNCTIONS", "Manner", "Mapping", "PatientSettings", "Text"]
