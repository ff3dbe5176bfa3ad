"""The server reads a table's checks anew for each statement that writes a row: one short check of a person instead of four."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("index", "0009_hot"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="person",
            name="index_person_status",
        ),
        migrations.RemoveConstraint(
            model_name="person",
            name="index_person_not_into_itself",
        ),
        migrations.RemoveConstraint(
            model_name="person",
            name="index_person_sex",
        ),
        migrations.AlterField(
            model_name="person",
            name="version",
            field=models.IntegerField(default=1),
        ),
        migrations.AlterField(
            model_name="sourcerecord",
            name="version",
            field=models.IntegerField(default=1),
        ),
        migrations.AddConstraint(
            model_name="person",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("merged_into__isnull", True), models.Q(("status", "merged"), _negated=True)),
                    models.Q(
                        ("merged_into__isnull", False),
                        ("status", "merged"),
                        models.Q(("merged_into", models.F("id")), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="index_person_status",
            ),
        ),
    ]
