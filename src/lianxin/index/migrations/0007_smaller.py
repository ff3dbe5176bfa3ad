"""Less disk a person: card numbers are found by the person number of the same serial, blind values by hash."""

import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("index", "0006_sources")]

    operations = [
        migrations.RemoveConstraint("person", "index_person_card"),
        migrations.RemoveIndex("person", "index_person_id_blind"),
        migrations.RemoveIndex("person", "index_person_phone"),
        migrations.AddIndex(
            "person",
            django.contrib.postgres.indexes.HashIndex(
                condition=models.Q(("id_blind__isnull", False)),
                fields=["id_blind"],
                name="index_person_id_blind",
            ),
        ),
        migrations.AddIndex(
            "person",
            django.contrib.postgres.indexes.HashIndex(
                condition=models.Q(("phone_blind__isnull", False)),
                fields=["phone_blind"],
                name="index_person_phone",
            ),
        ),
        migrations.AlterField("sourcerecord", "payload_hash", models.BinaryField(max_length=8)),
    ]
