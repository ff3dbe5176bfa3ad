from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("duty", "0002_about_nobody"),
        ("exchange", "0012_v2_mappings"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="dataproblem",
            name="dataproblem_once",
        ),
        migrations.AddField(
            model_name="dataproblem",
            name="live",
            field=models.BooleanField(default=True),
        ),
        migrations.AddConstraint(
            model_name="dataproblem",
            constraint=models.UniqueConstraint(
                condition=models.Q(("live", True)),
                fields=("institution", "door", "kind", "rule", "week"),
                name="dataproblem_live_once",
            ),
        ),
    ]
