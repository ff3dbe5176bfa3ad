"""DuckDB as the batch engine: one process, as many threads as asked, spilling to a folder of the run beyond its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from lianxin.index.match.sql import DUCKDB


class Duck:
    """Tables by name, statements in, numpy columns out."""

    dialect = DUCKDB
    explode = "unnest"

    def __init__(self, place: Path, memory: str = "10GB", threads: int = 2) -> None:
        self._con = duckdb.connect(
            ":memory:",
            config={"memory_limit": memory, "threads": threads, "temp_directory": str(place / "spill")},
        )
        self._con.execute("SET enable_progress_bar = false")

    def read(self, name: str, paths: list[Path]) -> None:
        """A table from Parquet files, as a view."""
        files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        self._con.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet([{files}])")

    def put(self, name: str, table: Any) -> None:
        """A table from an Arrow table."""
        self._con.register("given", table)
        self._con.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given")
        self._con.unregister("given")

    def make(self, name: str, query: str) -> None:
        """A table from a query."""
        self._con.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")

    def drop(self, name: str) -> None:
        """Give a table's memory back."""
        self._con.execute(f"DROP TABLE IF EXISTS {name}")

    def nested(self, query: str) -> str:
        """A query as a relation that another query reads from."""
        return f"({query}) nested"

    def columns(self, query: str) -> dict[str, Any]:
        """Result columns by name."""
        return dict(self._con.execute(query).fetchnumpy())

    def arrow(self, query: str) -> Any:
        """The result as an Arrow table."""
        return self._con.sql(query).to_arrow_table()

    def export(self, query: str, folder: Path, by: str) -> list[Path]:
        """Write a query as Parquet, one file for each value of the column ``by`` (which the files do not hold)."""
        folder.mkdir(mode=0o700)
        self._con.execute(
            f"COPY ({query}) TO '{folder}' (FORMAT parquet, PARTITION_BY ({by}), FILENAME_PATTERN 'part_{{i}}')"
        )
        parts = sorted(folder.iterdir(), key=lambda path: int(path.name.partition("=")[2]))
        return [file for part in parts for file in sorted(part.iterdir())]

    def close(self) -> None:
        """Let go of everything."""
        self._con.close()
