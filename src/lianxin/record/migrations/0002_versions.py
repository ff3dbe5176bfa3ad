"""The record laid out anew (schema.sql): what was stored is carried over, version by version, in the order it was written.

Old texts are compressed, current ones indexed anew.  About 2,500 versions a second; progress is printed every 50,000, and the
whole is one transaction, so that a migration broken off leaves everything as it was.
"""

from itertools import islice
from pathlib import Path
from typing import Any

from django.db import migrations

SCHEMA = (Path(__file__).parents[1] / "schema.sql").read_text(encoding="utf-8")
ASIDE = """
ALTER TABLE record_resource RENAME TO record_old_resource;
ALTER INDEX record_resource_pkey RENAME TO record_old_resource_pkey;
ALTER INDEX record_resource_key RENAME TO record_old_resource_key;
ALTER TABLE record_old_resource ALTER COLUMN rid DROP DEFAULT;
DROP INDEX record_resource_person, record_resource_updated;
ALTER TABLE record_history RENAME TO record_old_history;
ALTER INDEX record_history_pkey RENAME TO record_old_history_pkey;
DROP TABLE record_token, record_ref, record_date, record_quantity, record_string;
"""
EVERYTHING = """
SELECT r.key, h.version, h.updated, h.institution_id, h.deleted, h.body, r.rtype, r.id, r.person_id, r.subj, r.platform, FALSE AS now
  FROM record_old_history h JOIN record_old_resource r USING (rid)
UNION ALL
SELECT key, version, updated, institution_id, deleted, body, rtype, id, person_id, subj, platform, TRUE FROM record_old_resource
ORDER BY updated, version
"""
BATCH = 2_000


def carry_over(apps: Any, schema_editor: Any) -> None:
    """Write every old version into the new tables."""
    import orjson

    from lianxin.access import seal
    from lianxin.record import bodies, extract, rows

    with schema_editor.connection.cursor() as own:
        own.execute("SELECT count(*) FROM record_old_resource")
        if own.fetchone()[0] == 0:
            return
        cur = rows.server_cursor(own)
        read = cur.connection.cursor("carry_over")
        read.itersize = BATCH
        read.execute(EVERYTHING)
        done = 0
        while batch := list(islice(read, BATCH)):
            current, gone = [], []
            for (
                key,
                version,
                updated,
                institution,
                deleted,
                body,
                rtype,
                rid,
                person,
                subj,
                platform,
                now,
            ), number in zip(batch, rows.new_rids(cur, len(batch)), strict=True):
                text = seal.unseal(body) if rtype in bodies.PATIENTS else body
                index = (
                    extract.index_rows(orjson.loads(text), subj) if now and not deleted else extract.Rows()
                )
                packed = bodies.pack(rtype, text.encode()) if text else b""
                if now:
                    current.append(rows.Stored(number, key, rtype, rid, version, updated, packed, index, person, subj,
                                               institution, platform, deleted))  # fmt: skip
                else:
                    gone.append(
                        (number, key, person, updated, institution, version, deleted, rtype, rid, packed)
                    )
                _words(cur, index)
            rows.insert(cur, current)
            names = [
                "rid",
                "key",
                "person_id",
                "updated",
                "institution_id",
                "version",
                "deleted",
                "rtype",
                "id",
                "body",
            ]
            rows.copy(cur, "record_history", names, gone)
            done += len(batch)
            if done % 50_000 < BATCH:
                print(f" {done:,}", end="", flush=True)
        read.close()


def _words(cur: Any, index: Any) -> None:
    """Words inside the migration's own transaction: nobody else writes now."""
    if index.texts:
        cur.executemany(
            "INSERT INTO record_text VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", set(index.texts)
        )
    if index.units:
        cur.executemany(
            "INSERT INTO record_unit VALUES (%s) ON CONFLICT DO NOTHING", [(u,) for u in set(index.units)]
        )


class Migration(migrations.Migration):
    dependencies = [("record", "0001_initial")]
    operations = [
        migrations.RunSQL(ASIDE),
        migrations.RunSQL(SCHEMA),
        migrations.RunPython(carry_over),
        migrations.RunSQL("DROP TABLE record_old_history; DROP TABLE record_old_resource;"),
    ]
