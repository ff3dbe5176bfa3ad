"""Reference parameters: by id, url, type, identifier and hierarchy; and which parameter names a resource's patient."""

from typing import Any

from lianxin.record import definitions, extract, persons, visible
from lianxin.record.definitions import Param, kept
from lianxin.record.keys import blind, key_ref, key_ref_identifier, ref_key, ref_mask
from lianxin.record.paths import compile_path
from lianxin.record.query.base import Context, Sql, any_key, any_of, bad, bad_modifier, plain
from lianxin.record.query.kinds import leaf_types, narrowed, numbers

PARENTS = ("partof", "part-of")  # parameters that lead to the whole of which a resource is a part
SUBJECTS = ("patient", "subject", "beneficiary", "individual", "for")  # as extraction looks for the patient


@kept
def subject_numbers(rtype: str) -> tuple[int, ...]:
    """Numbers of the one single reference that ``subj`` of a row is taken from; empty where it may be several."""
    table = definitions.params(rtype)
    for code in SUBJECTS:
        param = table.get(code)
        if param is None or param.kind != "reference" or (param.targets and "Patient" not in param.targets):
            continue
        leaves = [leaf for path in param.paths for leaf in compile_path(rtype, path)]
        single = len(leaves) == 1 and leaves[0].type == "Reference" and _single(rtype, leaves[0].steps)
        return numbers(rtype, code) if single else ()
    return ()


def _single(rtype: str, steps: tuple[Any, ...]) -> bool:
    return len(steps) == 1 and definitions.elements(rtype).get(steps[0], [0, 0])[1] == 1


@kept
def is_subject(rtype: str, code: str) -> bool:
    """Whether this parameter finds just the patient that ``subj`` of the row names."""
    wanted = subject_numbers(rtype)
    return bool(wanted) and numbers(rtype, code) == wanted


def golden_keys(ctx: Context, patient_id: str) -> list[int]:
    """Keys of all source Patients behind a person number (and of the number itself); empty for anything else."""
    if ctx.cur is None or not persons.is_number(patient_id):
        return []
    person = persons.by_number(ctx.cur, patient_id)
    if person is None:
        return []
    ctx.cur.execute("SELECT subj FROM record_patient WHERE person_id = %s", [person])
    return [row[0] for row in ctx.cur.fetchall()]


def targets(rtype: str, param: Param) -> list[str]:
    """Resource types a reference parameter may lead to."""
    only = {source.only for source in narrowed(rtype, param.code)} - {""}
    return sorted(only) or list(param.targets) or sorted(definitions.types())


def target_keys(ctx: Context, rtype: str, param: Param, name: str, modifier: str, value: str) -> list[int]:
    """Keys of what a reference value may mean: ``Type/id``, a bare id of any allowed type, a person number, a url."""
    value = plain(value)
    if not value:
        raise bad(name, "缺少取值", "the value is missing")
    allowed = targets(rtype, param)
    found = extract.split_reference(value)
    if found is None and ("/" in value or ":" in value):
        return [ref_key(value)]  # a canonical url, a urn, a place outside
    if found is None:
        pairs = [(kind, value) for kind in ([modifier] if modifier else allowed)]
    else:
        pairs = [found]
    keys = []
    for kind, rid in pairs:
        if kind not in allowed or (modifier and kind != modifier):
            continue
        keys.append(ref_key(f"{kind}/{rid}"))
        if kind == "Patient":
            keys += golden_keys(ctx, rid)
    return keys


def reference(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """A reference parameter with any of its modifiers."""
    if modifier == "identifier":
        return any_key(alias, [key for v in given for key in _identifier(rtype, param, name, plain(v))])
    if modifier in ("below", "above"):
        return _hierarchy(ctx, rtype, param, name, modifier, given, alias)
    if modifier and (modifier not in definitions.types() or modifier not in targets(rtype, param)):
        raise bad_modifier(name, modifier)
    keys = [key for v in given for key in target_keys(ctx, rtype, param, name, modifier, v)]
    return any_key(alias, [key_ref(n, key) for key in keys for n in numbers(rtype, param.code)])


def _identifier(rtype: str, param: Param, name: str, value: str) -> list[int]:
    system, bar, number = value.partition("|")
    number = number if bar else system
    if not number:
        raise bad(name, "应为 系统|号码", "write system|value")
    return [key_ref_identifier(n, system if bar else "*", blind(number)) for n in numbers(rtype, param.code)]


def _hierarchy(
    ctx: Context, rtype: str, param: Param, name: str, modifier: str, given: list[str], alias: str
) -> Sql:
    """``:below``: refers to the resource or to a part of it, however deep; ``:above``: to it or to a whole it is part of."""
    if leaf_types(rtype, param.code) == {"canonical"}:
        raise bad_modifier(name, modifier)
    made: list[Sql] = []
    for kind in targets(rtype, param):
        table = definitions.params(kind)
        parent = next((c for c in PARENTS if c in table and kind in table[c].targets), None)
        if parent is None:
            continue
        keys = [
            ref_key(f"{found[0]}/{found[1]}")
            for v in map(plain, given)
            for found in [extract.split_reference(v) or (kind, v)]
            if found[0] == kind and "/" not in found[1]
        ]
        if not keys:
            continue
        (mask,) = (ref_mask(n) for n in numbers(kind, parent))
        tree, row = ctx.alias(), ctx.alias()
        seen, seen_args = visible.condition(ctx.scope, row, kind)
        if modifier == "below":
            step = (
                f"SELECT {row}.key FROM {tree} JOIN record_resource {row} ON {row}.keys @> ARRAY[{tree}.key # %s::bigint]"
                f" WHERE {row}.rtype = %s AND NOT {row}.deleted AND {seen}"
            )
        else:
            step = (
                f"SELECT k # %s::bigint FROM {tree} JOIN record_resource {row} ON {row}.key = {tree}.key, unnest({row}.keys) k"
                f" WHERE {row}.rtype = %s AND NOT {row}.deleted AND {seen}"
            )
        masks = [ref_mask(n) for n in numbers(rtype, param.code)]
        made.append(
            (
                f"{alias}.keys && ARRAY(WITH RECURSIVE {tree}(key) AS (SELECT unnest(%s::bigint[]) UNION {step})"
                f" SELECT {tree}.key # m FROM {tree}, unnest(%s::bigint[]) m)",
                [keys, mask, kind, *seen_args, masks],
            )
        )
    if not made:
        raise bad_modifier(name, modifier)
    return any_of(made)
