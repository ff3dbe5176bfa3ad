"""How strictly what a client writes is held to rules and profiles."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("access", "0004_batches")]
    operations = [
        migrations.AddField(
            "client", "validation", models.CharField(max_length=6, default="strict", db_default="strict")
        ),
        migrations.AddConstraint(
            "client",
            models.CheckConstraint(
                condition=Q(validation__in=("strict", "warn")), name="access_client_validation"
            ),
        ),
    ]
