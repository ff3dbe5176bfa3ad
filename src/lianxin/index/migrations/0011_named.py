"""The database keeps again what a person's row may say: the sex is checked, an institution that is named cannot go."""

from django.db import migrations, models

from lianxin.access import guards


class Migration(migrations.Migration):
    dependencies = [
        ("index", "0010_checks"),
        ("access", "0008_named"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="person",
            constraint=models.CheckConstraint(
                condition=models.Q(sex__in=("male", "female", "unknown", "other")), name="index_person_sex"
            ),
        ),
        migrations.RunSQL(*guards.named("network_institution", "index_sourcerecord", "institution_id")),
        migrations.RunSQL(*guards.named("network_institution", "index_person", "home_institution_id")),
    ]
