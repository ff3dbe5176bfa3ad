"""Number sequences, and the foreign keys of access tables to people (access stands below and cannot declare them)."""

from django.db import migrations

_TABLES = ("access_relationship", "access_breakglass", "access_consent")

FORWARD = """
CREATE SEQUENCE index_number_seq AS bigint MINVALUE 0 START 0 MAXVALUE 899999999;
""" + "".join(
    f"ALTER TABLE {table} ADD CONSTRAINT {table}_person_fk FOREIGN KEY (person_id) REFERENCES index_person (id)"
    " DEFERRABLE INITIALLY DEFERRED;\n"
    for table in _TABLES
)
BACKWARD = "DROP SEQUENCE index_number_seq;\n" + "".join(
    f"ALTER TABLE {table} DROP CONSTRAINT {table}_person_fk;\n" for table in _TABLES
)


class Migration(migrations.Migration):
    dependencies = [("index", "0001_initial"), ("access", "0002_guards")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
