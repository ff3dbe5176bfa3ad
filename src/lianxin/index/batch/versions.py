"""Model versions: trained, kept, compared, made the active one; and their m and u in Splink's form, in and out.

A version is never changed once it is kept; at most one is active (none: the one that ships). The training record travels along.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import active
from lianxin.index.batch import reading, table, train
from lianxin.index.batch.propose import home, make_engine
from lianxin.index.match import model as models
from lianxin.index.match.levels import FIELDS, LEVELS, TITLES
from lianxin.index.match.model import Model
from lianxin.index.models import IndexModel
from lianxin.standards import clock
from lianxin.standards.text import T

SHIPPED = "shipped"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


def find(version: str) -> Model:
    """A kept model by its version; ``shipped``: the one that ships. Raises Invalid naming those that exist."""
    if version in (SHIPPED, models.DEFAULT.version):
        return models.DEFAULT
    row = IndexModel.objects.filter(version=version).first()
    if row is None:
        known = ", ".join([SHIPPED, *IndexModel.objects.order_by("pk").values_list("version", flat=True)])
        raise Invalid(
            {
                "model": T(
                    "没有模型 {v}；现有：{known}。", "There is no model {v}; there are: {known}."
                ).format(v=version, known=known)
            }
        )
    return models.load(bytes(row.body))


def keep(scope: Scope, model: Model) -> IndexModel:
    """Keep a model under its version, not active. Permission ``relink``. Raises Invalid when the version is taken or odd."""
    scope.demand("relink")
    if not _VERSION.fullmatch(model.version) or model.version == SHIPPED:
        raise Invalid(
            {
                "version": T(
                    "版本名只能用字母、数字、点、横线和下划线，至多 60 个。",
                    "A version is made of letters, digits, dots, dashes and underscores, at most 60.",
                )
            }
        )
    if IndexModel.objects.filter(version=model.version).exists():
        raise Invalid({"version": T("该版本名已被使用。", "This version exists already.")})
    row = IndexModel.objects.create(
        version=model.version,
        body=model.dump(),
        made_at=clock.now(),
        made_by_id=scope.account_id,
        training=model.training,
    )
    audit.write(scope, "create", what=f"index model {model.version}")
    return row


@transaction.atomic
def activate(scope: Scope, version: str) -> None:
    """From now on registrations are weighed with this model (``shipped``: with the one that ships); links that exist stay as they
    are until a re-link is accepted. Permission ``relink``."""
    scope.demand("relink")
    find(version)
    IndexModel.objects.select_for_update().filter(active=True).update(active=False)
    IndexModel.objects.filter(version=version).update(active=True)
    audit.write(scope, "update", what=f"index model {version}", detail={"active": True})


def train_from_index(
    scope: Scope,
    version: str,
    *,
    engine: str = "duckdb",
    start: Model | None = None,
    processes: int = 2,
    told: Callable[[str], None] | None = None,
) -> IndexModel:
    """Train on the registrations that the index holds and keep the result. Raises Invalid when there are too few."""
    scope.demand("relink")
    with table.workplace(home()) as place:
        paths = reading.forms(place, processes)
        if not paths:
            raise Invalid({"forms": T("索引中还没有登记。", "The index holds no registrations yet.")})
        run = make_engine(engine, place)
        try:
            run.read("source", paths)
            if told:
                told("read")
            people = int(run.columns("SELECT count(DISTINCT pid) AS n FROM source")["n"][0])
            begin = start or active.current_model()
            record: dict[str, Any] = {
                "by": scope.name,
                "at": clock.now().isoformat(timespec="seconds"),
                "start": begin.version,
            }
            record |= {"engine": engine, "people": people}
            try:
                made = train.train(run, begin.for_people(people), version, record)
            except ValueError as error:
                raise Invalid({"forms": T(*str(error).split(" / "))}) from error
        finally:
            run.close()
    return keep(scope, made)


def to_splink(model: Model) -> dict[str, Any]:
    """m and u of every level in the layout of Splink's model JSON (comparisons, comparison levels), with our codes as labels.

    Bits are log2 m/u, so of the two only the ratio is told exactly; levels that weigh by rarity tell u of an average value.
    """
    comparisons = []
    for field in FIELDS:
        levels = [{"label_for_charts": "missing", "is_null_level": True, "sql_condition": f"{field}:missing"}]
        ratios = [2.0**w for w in model.weights[field][1:]]
        m_total = sum(math.sqrt(r) for r in ratios)
        for level, ratio in zip(LEVELS[field][1:], ratios, strict=True):
            m = math.sqrt(ratio) / m_total
            levels.append(
                {
                    "label_for_charts": level.code,
                    "sql_condition": f"{field}:{level.code}",
                    "m_probability": m,
                    "u_probability": m / ratio,
                }
            )
        comparisons.append(
            {
                "output_column_name": field,
                "comparison_description": TITLES[field].en,
                "comparison_levels": levels,
            }
        )
    return {
        "link_type": "dedupe_only",
        "probability_two_random_records_match": 2.0**model.prior,
        "comparisons": comparisons,
        "lianxin": {"version": model.version, "training": model.training},
    }


def from_splink(text: str, version: str, start: Model) -> Model:
    """``start`` with the m and u of a Splink model: comparisons named as our fields, levels labelled with our codes.

    What the model does not have keeps its weight. Raises Invalid for JSON without comparisons, or without any level of ours.
    """
    try:
        settings = json.loads(text)
        comparisons = settings["comparisons"]
        prior = math.log2(settings.get("probability_two_random_records_match") or 2.0**start.prior)
        weights = {field: list(row) for field, row in start.weights.items()}
        taken = 0
        for comparison in comparisons:
            field = comparison.get("output_column_name", "")
            codes = {level.code: level.number for level in LEVELS.get(field, ())}
            for level in comparison["comparison_levels"]:
                at = codes.get(level.get("label_for_charts", ""))
                m, u = level.get("m_probability"), level.get("u_probability")
                if at and m and u:
                    weights[field][at] = round(math.log2(m / u), 2)
                    taken += 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            {"file": T("不是 Splink 模型 JSON:{e}", "Not a Splink model: {e}").format(e=str(error)[:200])}
        ) from error
    if not taken:
        raise Invalid(
            {
                "file": T(
                    "模型中没有本平台的字段与级别(output_column_name、label_for_charts)。",
                    "The model has none of our fields and levels (output_column_name, label_for_charts).",
                )
            }
        )
    record = {"kind": "splink", "levels": taken, "start": start.version}
    return replace(
        start,
        version=version,
        prior=round(prior, 2),
        weights={field: tuple(row) for field, row in weights.items()},
        training=record,
    )
