"""Units of measure: UCUM codes parsed, compared and converted exactly.

The table (``data/terminology_ucum.json``, made by ``scripts/gen_units.py`` from the official UCUM essence) gives every unit as
a multiple of others; here a code becomes a vector over the seven base units and a rational factor.  Arbitrary units
(``[IU]``, ``[CFU]`` ...) are bases of their own: they can be compared only with themselves.  So is the mole, which UCUM has as a
mere number: otherwise every glucose (mmol/L) would be greater than every cell count (10*9/L).  Temperatures and logarithmic
units (``Cel``, ``[degF]``, ``[pH]``, ``dB``) have a function instead of a factor and stand alone in a code.

Source: The Unified Code for Units of Measure 2.2, clauses 2 (grammar), 3 (semantics), 4 (tables).
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

SYSTEM = "http://unitsofmeasure.org"
TABLE = Path(__file__).parent / "data" / "terminology_ucum.json"
LONGEST = 100  # characters of a code
DEEPEST = 8  # parentheses within parentheses
PIECES = 40  # units, numbers and annotations in a code
GREATEST = 60  # exponent of a unit: 10*60 is far beyond any measurement
DIGITS = 60  # significant digits kept in a result that has no exact decimal form, and of a value looked at
REACH = 400  # decimal exponent of a value looked at
EXACT = Context(prec=4 * DIGITS)
ROUND = Context(prec=34, Emax=999, Emin=-999)

Dims = tuple[tuple[str, int], ...]


class NotUcum(ValueError):
    """The text is no UCUM code (or one beyond the limits above)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A parsed code: base units with their exponents, the factor to them, and the function of a special unit."""

    dims: Dims
    factor: Fraction
    function: str = ""
    scale: Fraction = Fraction(1)  # the prefix of a special unit

    @property
    def name(self) -> str:
        """The dimension as a canonical code, for example ``g.m-3`` (``1``: none)."""
        return ".".join(base if power == 1 else f"{base}{power}" for base, power in self.dims) or "1"


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


@cache
def _prefixes() -> list[tuple[str, Fraction]]:
    """Prefixes, the longest first, so that ``da`` is not read as ``d``."""
    return sorted(((p, Fraction(v)) for p, v in _table()["prefixes"].items()), key=lambda p: -len(p[0]))


@cache
def _defined(code: str) -> Unit | None:
    """The unit that the table gives for a code without prefix, or None."""
    table = _table()
    if code in table["base"]:
        return Unit(((code, 1),), Fraction(1))
    row = table["units"].get(code)
    if row is None:
        return None
    _, arbitrary, value, unit, _, *function = row
    if code == "mol" or (arbitrary and unit == "1") or (function and function[0].startswith("hp")):
        return Unit(((code, 1),), Fraction(1))
    base = _Reader(unit).unit()
    if (
        function and unit == "deg"
    ):  # the table writes 100tan(1 rad) with the unit deg; the function is of radians
        base = Unit(base.dims, Fraction(1))
    return Unit(base.dims, base.factor * Fraction(value), function[0] if function else "")


@lru_cache(maxsize=4096)
def _atom(code: str) -> Unit:
    """A unit with its prefix, if it has one."""
    unit = _defined(code)
    if unit is not None:
        return unit
    table = _table()
    for prefix, factor in _prefixes():
        rest = code[len(prefix) :]
        if code.startswith(prefix) and (rest in table["base"] or table["units"].get(rest, (0,))[0]):
            unit = _defined(rest)
            assert unit is not None
            if unit.function:
                return Unit(unit.dims, unit.factor, unit.function, factor)
            return Unit(unit.dims, unit.factor * factor)
    raise NotUcum(code)


_ATOM = re.compile(r"(?:10[*^]|(?:[^\s\[\](){}./0-9+-]|\[[^\[\]\s]*\])+)")
_POWER = re.compile(r"[+-]?[0-9]{1,3}")
_NUMBER = re.compile(r"[0-9]{1,15}")
_ANNOTATION = re.compile(
    r"\{[^{}\x00-\x1f]*\}"
)  # UCUM wants ASCII; Chinese annotations ({次}/min) are accepted


class _Reader:
    """A recursive reader of the UCUM grammar (clause 2.1)."""

    def __init__(self, text: str) -> None:
        if not text or len(text) > LONGEST:
            raise NotUcum(text[:LONGEST])
        self.text, self.at, self.pieces = text, 0, 0

    def unit(self) -> Unit:
        """The whole text as one unit."""
        dims, factor, special = self._term(0)
        if self.at != len(self.text):
            raise NotUcum(self.text)
        if special is not None:
            return special
        return Unit(tuple(sorted((b, p) for b, p in dims.items() if p)), factor)

    def _term(self, depth: int) -> tuple[dict[str, int], Fraction, Unit | None]:
        if depth > DEEPEST:
            raise NotUcum(self.text)
        dims: dict[str, int] = {}
        factor, special, parts = Fraction(1), None, 0
        sign = -1 if self._take("/") else 1
        while True:
            part_dims, part, function = self._component(depth)
            parts += 1
            special = special or function
            for base, power in part_dims.items():
                dims[base] = dims.get(base, 0) + sign * power
            factor = factor * part if sign > 0 else factor / part
            if self._take("."):
                sign = 1
            elif self._take("/"):
                sign = -1
            else:
                break
        if special is not None and (parts > 1 or sign < 0):
            raise NotUcum(self.text)  # clause 3, §21-22: special units take no part in products
        if max(factor.numerator.bit_length(), factor.denominator.bit_length()) > 4000:
            raise NotUcum(self.text)
        return dims, factor, special

    def _take(self, char: str) -> bool:
        found = self.text.startswith(char, self.at)
        self.at += found
        return found

    def _component(self, depth: int) -> tuple[dict[str, int], Fraction, Unit | None]:
        self.pieces += 1
        if self.pieces > PIECES:
            raise NotUcum(self.text)
        if self._take("("):
            inside = self._term(depth + 1)
            if not self._take(")"):
                raise NotUcum(self.text)
            self._annotation()
            return inside
        if self._annotation():
            return {}, Fraction(1), None
        made = self._simple()
        self._annotation()
        return made

    def _annotation(self) -> bool:
        """Read over an annotation: it says nothing about the unit (clause 2.4)."""
        found = _ANNOTATION.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found is not None

    def _simple(self) -> tuple[dict[str, int], Fraction, Unit | None]:
        """A number, or a unit with its exponent."""
        atom = _ATOM.match(self.text, self.at)
        if atom is None:
            number = _NUMBER.match(self.text, self.at)
            if number is None or not int(number[0]):
                raise NotUcum(self.text)
            self.at = number.end()
            return {}, Fraction(int(number[0])), None
        self.at = atom.end()
        unit = _atom(atom[0])
        power = _POWER.match(self.text, self.at)
        if power is None:
            return dict(unit.dims), unit.factor, unit if unit.function else None
        self.at = power.end()
        count = int(power[0])
        if unit.function or not 0 < abs(count) <= GREATEST:
            raise NotUcum(self.text)
        return {b: p * count for b, p in unit.dims}, unit.factor**count, None


@lru_cache(maxsize=8192)
def parse(code: str) -> Unit | None:
    """The unit of a UCUM code (case-sensitive, ``c/s``), or None when the text is no such code."""
    try:
        return _Reader(code).unit()
    except NotUcum:
        return None


def valid(code: str) -> bool:
    """Whether a text is a UCUM code."""
    return parse(code) is not None


def dimension(code: str) -> str | None:
    """The dimension in base units (``mg/dL`` -> ``g.m-3``; ``1``: dimensionless); two units convert when these are equal."""
    unit = parse(code)
    return unit.name if unit else None


@cache
def describe(code: str) -> str | None:
    """The English name that the UCUM tables give a unit without prefix, if any."""
    row = _table()["units"].get(code)
    return row[4] if row else _table()["base"].get(code)


def canonical(value: Decimal, code: str) -> tuple[Decimal, str] | None:
    """A quantity in base units and its dimension; None when the code is not UCUM or the value absurd."""
    unit = parse(code)
    if unit is None or not _sane(value):
        return None
    if unit.function:
        based = _from_special(value, unit)
        return None if based is None else (based, unit.name)
    factor = _exact(unit.factor)
    if factor is not None:
        return EXACT.multiply(value, factor), unit.name
    return _decimal(Fraction(value) * unit.factor), unit.name


@lru_cache(maxsize=8192)
def _ratio(frm: str, to: str) -> tuple[Decimal | None, Fraction] | None:
    """The factor between two units as a Decimal (when it has an exact one) and as a fraction."""
    a, b = parse(frm), parse(to)
    if a is None or b is None or a.dims != b.dims or a.function or b.function:
        return None
    ratio = a.factor / b.factor
    return _exact(ratio), ratio


def convert(value: Decimal, frm: str, to: str) -> Decimal | None:
    """``value`` ``frm`` in ``to``; None when either is not UCUM, they measure different things, or the value is absurd.

    Exact wherever the result has a finite decimal form of reasonable length, else rounded to 34 digits.
    """
    if not _sane(value):
        return None
    ratio = _ratio(frm, to)
    if ratio is not None:
        return (
            EXACT.multiply(value, ratio[0]) if ratio[0] is not None else _decimal(Fraction(value) * ratio[1])
        )
    a, b = parse(frm), parse(to)
    if a is None or b is None or a.dims != b.dims:
        return None
    if a == b:
        return value
    based = _from_special(value, a) if a.function else _decimal(Fraction(value) * a.factor)
    if based is None:
        return None
    return _to_special(based, b) if b.function else _decimal(Fraction(based) / b.factor)


def _sane(value: Decimal) -> bool:
    """Whether a number can be looked at in bounded time."""
    return value.is_finite() and abs(value.adjusted()) <= REACH and len(value.as_tuple().digits) <= DIGITS


@lru_cache(maxsize=8192)
def _exact(number: Fraction) -> Decimal | None:
    """A fraction as the Decimal it equals, or None when it has none of at most :data:`DIGITS` digits."""
    rest, twos, fives = number.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return None
    places = max(twos, fives)
    digits = number.numerator * 2 ** (places - twos) * 5 ** (places - fives)
    bare = Decimal(digits).scaleb(-places, EXACT) if len(str(abs(digits))) <= 3 * DIGITS else None
    if bare is None:
        return None
    bare = bare.normalize(EXACT)
    return bare if len(bare.as_tuple().digits) <= DIGITS else None


def _decimal(number: Fraction) -> Decimal:
    exact = _exact(number)
    return ROUND.divide(Decimal(number.numerator), Decimal(number.denominator)) if exact is None else exact


_ABSOLUTE = {"Cel": Fraction("273.15"), "degF": Fraction("459.67"), "degRe": Fraction("218.52")}


def _power(base: Decimal) -> Callable[[Decimal], Decimal]:
    return lambda x: base**x


def _tangent(x: Decimal) -> Decimal:
    return Decimal(math.atan(float(x) / 100))


# function -> (from the written number to the multiple of its unit, and back); UCUM clause 4, tables of special units
_FUNCTIONS: dict[str, tuple[Callable[[Decimal], Decimal], Callable[[Decimal], Decimal]]] = {
    "pH": (lambda x: Decimal(10) ** -x, lambda y: -y.log10()),
    "ln": (lambda x: x.exp(), lambda y: y.ln()),
    "lg": (_power(Decimal(10)), lambda y: y.log10()),
    "lgTimes2": (lambda x: Decimal(10) ** (x / 2), lambda y: 2 * y.log10()),
    "ld": (_power(Decimal(2)), lambda y: y.ln() / Decimal(2).ln()),
    "sqrt": (lambda x: x * x, lambda y: y.sqrt()),
    "100tan": (_tangent, lambda y: Decimal(math.tan(float(y)) * 100)),
    "tanTimes100": (_tangent, lambda y: Decimal(math.tan(float(y)) * 100)),
}


def _from_special(value: Decimal, unit: Unit) -> Decimal | None:
    """A number of a special unit in base units."""
    written = Fraction(value) * unit.scale
    if unit.function in _ABSOLUTE:
        return _decimal((written + _ABSOLUTE[unit.function]) * unit.factor)
    return _through(_FUNCTIONS[unit.function][0], _decimal(written), lambda y: Fraction(y) * unit.factor)


def _to_special(based: Decimal, unit: Unit) -> Decimal | None:
    """A number in base units as a number of a special unit."""
    if unit.function in _ABSOLUTE:
        return _decimal((Fraction(based) / unit.factor - _ABSOLUTE[unit.function]) / unit.scale)
    multiple = _decimal(Fraction(based) / unit.factor)
    return _through(_FUNCTIONS[unit.function][1], multiple, lambda y: Fraction(y) / unit.scale)


def _through(
    function: Callable[[Decimal], Decimal], number: Decimal, then: Callable[[Decimal], Fraction]
) -> Decimal | None:
    """Apply a function that has no exact result, in bounded time (the context overflows early); None outside its domain."""
    try:
        with localcontext(ROUND):
            made = function(number)
            return _decimal(then(made)) if made.is_finite() and abs(made.adjusted()) <= REACH else None
    except (InvalidOperation, Overflow, DivisionByZero, OverflowError):
        return None
