"""Spark as the batch engine, for more than one machine holds: the same statements. ``LIANXIN_SPARK_MASTER`` names the cluster.

Needs ``requirements/spark.txt`` and a Java 17; ``local[2]`` (the default) runs in this machine. The driver holds what passes the
policy (pairs and labels), not the candidate pairs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lianxin.index.match.sql import SPARK
from lianxin.standards.text import T


class SparkMissing(RuntimeError):
    """pyspark is not installed; the message says how to get it."""


class Spark:
    """Tables by name (materialised as Parquet under the run's folder), statements in, numpy columns out."""

    dialect = SPARK
    explode = "explode"

    def __init__(self, place: Path, master: str | None = None, memory: str = "4g") -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise SparkMissing(
                str(
                    T(
                        "未安装 Spark:请执行 pip install --require-hashes -r requirements/spark.txt。",
                        "Spark is not installed: pip install --require-hashes -r requirements/spark.txt.",
                    )
                )
            ) from error
        self._place = place
        self._made = 0
        self._session = (
            SparkSession.builder.appName("lianxin-index")
            .master(master or os.environ.get("LIANXIN_SPARK_MASTER", "local[2]"))
            .config("spark.driver.memory", memory)
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", os.environ.get("LIANXIN_SPARK_DRIVER", "127.0.0.1"))
            .config("spark.sql.shuffle.partitions", os.environ.get("LIANXIN_SPARK_PARTITIONS", "8"))
            .config("spark.local.dir", str(place / "spill"))
            .config("spark.sql.warehouse.dir", str(place / "warehouse"))
            .config("spark.sql.execution.arrow.pyspark.enabled", "true")
            # The level expressions are longer than the JVM compiles: interpreted they are faster than tried and given up.
            .config("spark.sql.codegen.wholeStage", "false")
            .config("spark.sql.ansi.enabled", "false")
            .getOrCreate()
        )
        self._session.sparkContext.setLogLevel("ERROR")

    def read(self, name: str, paths: list[Path]) -> None:
        """A table from Parquet files, as a view."""
        self._session.read.parquet(*(str(path) for path in paths)).createOrReplaceTempView(name)

    def put(self, name: str, table: Any) -> None:
        """A table from an Arrow table."""
        import pyarrow.parquet as pq

        path = self._next(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        self.read(name, [path])

    def make(self, name: str, query: str) -> None:
        """A table from a query, written out so that what is built on it does not work it out again."""
        path = self._next(name)
        self._session.sql(query).write.parquet(str(path))
        self.read(name, [path])

    def drop(self, name: str) -> None:
        """Forget a table (its files go with the run)."""
        self._session.catalog.dropTempView(name)

    def nested(self, query: str) -> str:
        """A query as a relation that another query reads from: written out, or Spark would paste its long expressions into
        every place that names them."""
        self.make("nested", query)
        return "nested"

    def columns(self, query: str) -> dict[str, Any]:
        """Result columns by name."""
        table = self.arrow(query)
        return {name: table.column(name).to_numpy() for name in table.column_names}

    def arrow(self, query: str) -> Any:
        """The result as an Arrow table."""
        import pyarrow.parquet as pq

        path = self._next("result")
        self._session.sql(query).write.parquet(str(path))
        return pq.read_table(path)

    def close(self) -> None:
        """Stop the session."""
        self._session.stop()

    def _next(self, name: str) -> Path:
        self._made += 1
        return self._place / "tables" / f"{name}-{self._made}.parquet"
