"""The tables of the matching engine, and the existing registrations brought over: sealed payloads become binary, every one gets
its comparable form and its keys. One transaction: an installation has either all of it or none; progress is printed.
"""

import datetime as dt
from typing import Any

import django.db.models.deletion
import orjson
from django.db import migrations, models

from lianxin.access import seal

FORMS = """
CREATE TABLE index_form (person_id bigint NOT NULL, keys int4[], body bytea NOT NULL);
COMMENT ON TABLE index_form IS 'registrations in comparable form, each once per person; keys that another form of the person has are left out';
"""
CHUNK = 5000


def _said(step: str, done: int, total: int) -> None:
    print(f"\n  index: {step} {done:,} of {total:,}", end="", flush=True)


def bring_payloads(apps: Any, schema_editor: Any) -> None:
    """Sealed JSON in base64 becomes a small sealed binary."""
    from lianxin.index import payload
    from lianxin.index.form import Registration

    with schema_editor.connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM index_sourcerecord")
        total, done, last = cur.fetchone()[0], 0, 0
        while True:
            cur.execute(
                "SELECT id, payload_sealed FROM index_sourcerecord WHERE id > %s ORDER BY id LIMIT %s",
                [last, CHUNK],
            )
            rows = cur.fetchall()
            if not rows:
                break
            out = []
            for pk, sealed in rows:
                body = orjson.loads(seal.unseal(sealed))
                for name in ("birth_date", "deceased_on"):
                    body[name] = dt.date.fromisoformat(body[name]) if body.get(name) else None
                known = Registration.__dataclass_fields__
                plain = payload.plain(Registration(**{k: v for k, v in body.items() if k in known}))
                out.append((pk, payload.sealed(plain), payload.digest(plain)))
            cur.execute(
                "UPDATE index_sourcerecord s SET payload = n.p, payload_hash = n.h"
                " FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[]) AS n(id, p, h) WHERE s.id = n.id",
                [list(c) for c in zip(*out, strict=True)],
            )
            last, done = rows[-1][0], done + len(rows)
            _said("registrations repacked", done, total)


def build_forms(apps: Any, schema_editor: Any) -> None:
    """Forms and keys of everybody, then the index over the keys."""
    from lianxin.index import rebuild

    with schema_editor.connection.cursor() as cur:
        rebuild.forms(cur, lambda done, total: _said("registrations keyed", done, total) if total else None)


class Migration(migrations.Migration):
    dependencies = [("index", "0002_mechanism"), ("access", "0002_guards")]

    operations = [
        migrations.AddField("sourcerecord", "payload", models.BinaryField(null=True)),
        migrations.RunPython(bring_payloads, migrations.RunPython.noop),
        migrations.RemoveField("sourcerecord", "payload_sealed"),
        migrations.AlterField("sourcerecord", "payload", models.BinaryField()),
        migrations.AlterField("sourcerecord", "payload_hash", models.BinaryField(max_length=16)),
        migrations.AlterField(
            "sourcerecord", "patient_id", models.CharField(blank=True, max_length=64, null=True)
        ),
        migrations.AddConstraint(
            "sourcerecord",
            models.UniqueConstraint(
                condition=models.Q(patient_id__isnull=False),
                fields=("patient_id",),
                name="index_source_patient",
            ),
        ),
        migrations.AlterField("person", "number", models.CharField(max_length=10)),
        migrations.AlterField("person", "card_number", models.CharField(max_length=16)),
        migrations.AddConstraint(
            "person", models.UniqueConstraint(fields=("number",), name="index_person_number")
        ),
        migrations.AddConstraint(
            "person", models.UniqueConstraint(fields=("card_number",), name="index_person_card")
        ),
        migrations.AlterField(
            "person",
            "merged_into",
            models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="absorbed",
                to="index.person",
            ),
        ),
        migrations.AddIndex(
            "person",
            models.Index(
                condition=models.Q(merged_into__isnull=False),
                fields=["merged_into"],
                name="index_person_merged",
            ),
        ),
        migrations.RemoveIndex("person", "index_person_pinyin"),
        migrations.AddIndex(
            "person",
            models.Index(fields=["pinyin"], name="index_person_pinyin", opclasses=["text_pattern_ops"]),
        ),
        migrations.AlterField(
            "linkevent",
            "undone_by",
            models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to="index.linkevent",
            ),
        ),
        migrations.AddConstraint(
            "linkevent",
            models.UniqueConstraint(
                condition=models.Q(undone_by__isnull=False),
                fields=("undone_by",),
                name="index_event_undone_once",
            ),
        ),
        migrations.AddField("linkevent", "decision", models.BinaryField(null=True)),
        migrations.CreateModel(
            "IndexModel",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version", models.CharField(max_length=60, unique=True)),
                ("body", models.BinaryField()),
                ("active", models.BooleanField(default=False)),
                ("made_at", models.DateTimeField()),
                ("made_by_id", models.BigIntegerField(null=True)),
                ("training", models.JSONField(default=dict)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(active=True), fields=("active",), name="index_model_one_active"
                    )
                ]
            },
        ),
        migrations.CreateModel(
            "CrowdedKey",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.IntegerField(unique=True)),
                ("people", models.IntegerField()),
                ("since", models.DateTimeField()),
            ],
            options={"db_table": "index_crowd"},
        ),
        migrations.CreateModel(
            "GenericValue",
            [
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(max_length=8)),
                ("digest", models.BinaryField(max_length=16)),
                ("value_sealed", models.BinaryField()),
                ("people", models.IntegerField()),
                ("active", models.BooleanField(default=True)),
                ("since", models.DateTimeField()),
                ("epoch", models.BigIntegerField(db_index=True)),
            ],
            options={
                "db_table": "index_generic",
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "digest"), name="index_generic_once")
                ],
            },
        ),
        migrations.RunSQL("CREATE SEQUENCE index_generic_epoch", "DROP SEQUENCE index_generic_epoch"),
        migrations.RunSQL(FORMS, "DROP TABLE index_form"),
        migrations.RunPython(build_forms, migrations.RunPython.noop),
    ]
