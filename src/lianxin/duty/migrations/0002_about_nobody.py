import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("duty", "0001_initial"),
        ("index", "0011_named"),
    ]

    operations = [
        migrations.AlterField(
            model_name="case",
            name="person",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="index.person",
            ),
        ),
        migrations.AlterField(
            model_name="duty",
            name="person",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="index.person",
            ),
        ),
    ]
