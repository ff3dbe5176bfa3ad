"""The record's first tables (plain SQL: the store speaks SQL and COPY, never the ORM)."""

from pathlib import Path

from django.db import migrations

SCHEMA = Path(__file__).with_name("0001.sql").read_text(encoding="utf-8")
TABLES = ["token", "ref", "date", "quantity", "string", "patient", "history", "resource"]
DROP = "".join(f"DROP TABLE record_{name};" for name in TABLES) + "DROP SEQUENCE record_rid;"


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunSQL(SCHEMA, DROP)]
