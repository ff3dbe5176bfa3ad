"""The ``_filter`` language (R4, 3.1.3): comparisons joined by ``and``, ``or``, ``not`` and parentheses.

Every comparison becomes an ordinary search parameter, so that nothing is searched here that could not be searched there.
"""

import re

from lianxin.record.query.base import Context, Sql, bad

TOKEN = re.compile(
    r"""\s*(?:(\()|(\))|("(?:[^"\\]|\\.)*")|([A-Za-z_][\w\-]*(?:\[[^\]]*\])?(?:\.[A-Za-z_][\w\-]*)*)|([^\s()"]+))"""
)
MAX_TERMS = 50
PREFIXED = frozenset({"ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})
MODIFIED = {"co": ":contains", "in": ":in", "ni": ":not-in", "ss": ":below", "sb": ":above"}


def condition(ctx: Context, rtype: str, text: str, alias: str) -> Sql:
    """SQL of a whole filter; 400 with the place where it cannot be understood."""
    return _Parser(ctx, rtype, text, alias).whole()


class _Parser:
    def __init__(self, ctx: Context, rtype: str, text: str, alias: str) -> None:
        self.ctx, self.rtype, self.alias = ctx, rtype, alias
        self.words: list[str] = []
        self.at = 0
        self.terms = 0
        end = 0
        for match in TOKEN.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            self.words.append(match[0].strip())
        if text[end:].strip():
            raise self.wrong(text[end : end + 20])

    def wrong(self, near: str) -> Exception:
        """A refusal that shows where."""
        return bad("_filter", f"“{near[:40]}”处无法理解", f"not understood at '{near[:40]}'")

    def word(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self) -> str:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else ""

    def whole(self) -> Sql:
        found = self.either(0)
        if self.word():
            raise self.wrong(self.word())
        return found

    def either(self, depth: int) -> Sql:
        return self.joined("or", depth)

    def joined(self, word: str, depth: int) -> Sql:
        """``a or b or c`` of terms joined by ``and``, or those."""
        parts = [self.joined("and", depth) if word == "or" else self.term(depth)]
        while self.word() == word:
            self.take()
            parts.append(self.joined("and", depth) if word == "or" else self.term(depth))
        if len(parts) == 1:
            return parts[0]
        return "(" + f" {word.upper()} ".join(p[0] for p in parts) + ")", [v for p in parts for v in p[1]]

    def term(self, depth: int) -> Sql:
        self.terms += 1
        if self.terms > MAX_TERMS or depth > MAX_TERMS // 2:
            raise bad("_filter", f"最多 {MAX_TERMS} 项", f"at most {MAX_TERMS} terms")
        word = self.take()
        if word == "not":
            text, args = self.term(depth + 1)
            return f"NOT ({text})", args
        if word == "(":
            text, args = self.either(depth + 1)
            if self.take() != ")":
                raise self.wrong(word)
            return f"({text})", args
        return self.comparison(word)

    def comparison(self, name: str) -> Sql:
        from lianxin.record import definitions
        from lianxin.record.query import conditions
        from lianxin.record.query.base import UnknownParameter

        operation, value = self.take(), self.take()
        if not re.fullmatch(r"[A-Za-z_][\w\-]*(\.[A-Za-z_][\w\-]*)*", name) or value in ("", "(", ")"):
            raise self.wrong(f"{name} {operation} {value}")
        if value[0] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
            value = re.sub(r"([\\,$])", r"\\\1", value)
        param = definitions.params(self.rtype).get(name)
        if operation == "pr":
            if value not in ("true", "false"):
                raise self.wrong(f"{name} pr {value}")
            name, value = f"{name}:missing", "false" if value == "true" else "true"
        elif operation == "eq" and param is not None and param.kind == "string":
            name += ":exact"
        elif (
            operation == "ne" and param is not None and param.kind in ("token", "string", "reference", "uri")
        ):
            text, args = conditions.condition(self.ctx, self.rtype, name, value, self.alias)
            return f"NOT ({text})", args
        elif operation in PREFIXED:
            value = operation + value
        elif operation in MODIFIED:
            name += MODIFIED[operation]
        elif operation not in ("eq", "sw", "re"):
            raise self.wrong(f"{name} {operation}")
        try:
            return conditions.condition(self.ctx, self.rtype, name, value, self.alias)
        except UnknownParameter:
            raise bad(
                "_filter",
                f"{self.rtype} 没有查询参数 {name[:60]}",
                f"{self.rtype} has no search parameter {name[:60]}",
            ) from None
