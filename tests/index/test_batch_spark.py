"""Spark answers as DuckDB does. Run by ``make test-spark`` only: it needs pyspark and a Java 17."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lianxin.index.batch import link, train
from lianxin.index.match.model import DEFAULT
from tests.index import batch_data as data

pytestmark = pytest.mark.skipif(not os.environ.get("LIANXIN_SPARK"), reason="make test-spark runs it")


def test_both_engines_give_the_same_answers(tmp_path: Path) -> None:
    from lianxin.index.batch.spark import Spark

    forms = data.forms()[:600]
    duck = data.duck(tmp_path, forms)
    (tmp_path / "spark").mkdir()
    spark = Spark(tmp_path / "spark", "local[2]", "1g")
    try:
        data.fill(spark, tmp_path / "spark", forms)
        a, b = (link.link(engine, data.model()) for engine in (duck, spark))
        for name in ("rid", "label", "left", "right", "pattern", "kind"):
            assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
        assert a.bits.tolist() == pytest.approx(b.bits.tolist())
        for name in ("pairs", "links", "groups", "reviews", "crowded_keys"):
            assert a.figures[name] == b.figures[name], name
        one, other = (train.train(engine, DEFAULT.for_people(300), "v") for engine in (duck, spark))
        assert one.weights == other.weights
    finally:
        spark.close()
