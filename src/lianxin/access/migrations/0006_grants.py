"""Granting access locks no institution's row: thousands of registrations a second name the same few."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("access", "0005_validation")]

    operations = [
        migrations.AlterField(
            "relationship",
            "institution",
            models.ForeignKey(
                "network.institution",
                on_delete=django.db.models.deletion.PROTECT,
                db_index=False,
                db_constraint=False,
                related_name="+",
            ),
        ),
    ]
