"""The five compartments of R4 (Patient, Encounter, RelatedPerson, Practitioner, Device): what belongs to one such resource."""

from functools import cache

from lianxin.record import definitions, extract
from lianxin.record.keys import key_ref, ref_key
from lianxin.record.query.base import Context, Sql, any_key, any_of, bad
from lianxin.record.query.kinds import numbers
from lianxin.record.query.references import golden_keys


@cache
def members(kind: str) -> dict[str, tuple[str, ...]]:
    """Types of a compartment, each with the reference parameters that count (``{def}``: the resource itself)."""
    found = {rtype: tuple(codes) for rtype, codes in definitions.compartments().get(kind, {}).items()}
    return {**found, kind: found.get(kind, ())}


def types(kind: str) -> frozenset[str]:
    """Types that may be in a compartment of this kind."""
    return frozenset(members(kind))


def condition(ctx: Context, rtype: str, compartment: tuple[str, str], alias: str) -> Sql:
    """Resources of a type that belong to one compartment; 400 when this type never does."""
    kind, rid = compartment
    codes = members(kind).get(rtype)
    if codes is None:
        raise bad(rtype, f"{rtype} 不属于 {kind} 分区", f"{rtype} is in no {kind} compartment")
    own = [ref_key(f"{kind}/{rid}"), *(golden_keys(ctx, rid) if kind == "Patient" else [])]
    found = [
        key_ref(n, key)
        for code in codes
        if code in extract.supported(rtype)
        for n in numbers(rtype, code)
        for key in own
    ]
    parts = [any_key(alias, found)] if found else []
    if rtype == kind:
        parts.append((f"{alias}.key = ANY(%s::bigint[])", [own]))
    return any_of(parts)
