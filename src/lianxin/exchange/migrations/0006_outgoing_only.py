from django.db import migrations, models


class Migration(migrations.Migration):
    """Messages of HL7 v2 that came in are arrivals now: what is left goes out."""

    dependencies = [("exchange", "0005_feeds")]

    operations = [
        migrations.RemoveConstraint(
            model_name="v2message",
            name="v2message_direction",
        ),
        migrations.RemoveConstraint(
            model_name="v2message",
            name="v2message_state",
        ),
        migrations.RemoveConstraint(
            model_name="v2message",
            name="v2message_told_once",
        ),
        migrations.RemoveIndex(
            model_name="v2message",
            name="v2message_control_id",
        ),
        migrations.RemoveField(
            model_name="v2message",
            name="direction",
        ),
        migrations.RemoveField(
            model_name="v2message",
            name="same",
        ),
        migrations.AddConstraint(
            model_name="v2message",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ("refused", "waiting", "sent", "held"))),
                name="v2message_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="v2message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("event_id__isnull", False)),
                fields=("peer", "event_id", "kind", "person_id"),
                name="v2message_told_once",
            ),
        ),
    ]
