"""The database keeps again who may be named: kinds of relationship are checked, an institution that is named cannot go."""

from django.db import migrations, models

from lianxin.access import guards


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0007_kinds"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="relationship",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    kind__in=("home", "contract", "encounter", "duty", "registration", "break_glass")
                ),
                name="access_relationship_kind",
            ),
        ),
        migrations.RunSQL(guards.NAMED, "DROP FUNCTION access_still_named() CASCADE"),
        migrations.RunSQL(*guards.named("network_institution", "access_relationship", "institution_id")),
    ]
