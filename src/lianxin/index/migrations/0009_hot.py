"""Registering writes less: no institution's row is locked for being named, and a person who changes finds room beside the old row."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("index", "0008_golden")]

    operations = [
        migrations.AlterField(
            "person",
            "home_institution",
            models.ForeignKey(
                "network.institution",
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                db_index=False,
                db_constraint=False,
                related_name="+",
            ),
        ),
        migrations.AlterField(
            "sourcerecord",
            "institution",
            models.ForeignKey(
                "network.institution",
                on_delete=django.db.models.deletion.PROTECT,
                db_index=False,
                db_constraint=False,
                related_name="+",
            ),
        ),
        migrations.RunSQL(
            "ALTER TABLE index_person SET (fillfactor = 95)", "ALTER TABLE index_person RESET (fillfactor)"
        ),
    ]
