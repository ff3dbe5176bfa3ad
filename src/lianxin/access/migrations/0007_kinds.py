"""Kinds of relationship are refused where they are given: a list of six was read anew for every registration."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0006_grants"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="relationship",
            name="access_relationship_kind",
        ),
    ]
