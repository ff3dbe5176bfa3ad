"""Identifier domains, systems that speak HL7 v2, and their messages."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0005_validation"),
        ("exchange", "0003_subscriptions"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Peer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=120, unique=True)),
                ("application", models.CharField(max_length=180)),
                ("facility", models.CharField(blank=True, max_length=180)),
                ("default_system", models.CharField(blank=True, max_length=200)),
                ("addresses", models.JSONField(default=list)),
                ("fingerprint", models.CharField(blank=True, max_length=64)),
                ("codec", models.CharField(blank=True, max_length=20)),
                ("reuses_ids", models.BooleanField(default=False)),
                ("active", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField()),
                ("host", models.CharField(blank=True, max_length=200)),
                ("port", models.IntegerField(default=2575)),
                ("tls", models.BooleanField(default=False)),
                ("version", models.CharField(default="2.5", max_length=8)),
                (
                    "wants",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=10), default=list, size=None
                    ),
                ),
                ("told_event", models.BigIntegerField(default=0)),
                ("paused", models.BooleanField(default=False)),
                ("failures", models.IntegerField(default=0)),
                ("not_before", models.DateTimeField(null=True)),
                ("last_error", models.TextField(blank=True)),
                ("heard_at", models.DateTimeField(null=True)),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="access.client"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="V2Message",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("direction", models.CharField(max_length=3)),
                ("control_id", models.CharField(max_length=199)),
                ("kind", models.CharField(max_length=20)),
                ("same", models.BinaryField(max_length=16)),
                ("body", models.BinaryField()),
                ("answer", models.BinaryField(null=True)),
                ("code", models.CharField(blank=True, max_length=2)),
                ("error", models.TextField(blank=True)),
                ("state", models.CharField(max_length=8)),
                ("person_id", models.BigIntegerField(null=True)),
                ("event_id", models.BigIntegerField(null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("at", models.DateTimeField()),
                ("done_at", models.DateTimeField(null=True)),
                (
                    "peer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="messages",
                        to="exchange.peer",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Domain",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("system", models.CharField(max_length=200)),
                ("namespace", models.CharField(blank=True, max_length=60)),
                ("oid", models.CharField(blank=True, max_length=120)),
                ("name", models.CharField(blank=True, max_length=120)),
                ("sharing", models.CharField(default="partners", max_length=8)),
                ("created_at", models.DateTimeField()),
                (
                    "institution",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="network.institution",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("system", "institution"), name="domain_once"),
                    models.CheckConstraint(
                        condition=models.Q(("sharing__in", ("own", "partners", "all"))), name="domain_sharing"
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="peer",
            constraint=models.UniqueConstraint(fields=("application", "facility"), name="peer_once"),
        ),
        migrations.AddConstraint(
            model_name="peer",
            constraint=models.CheckConstraint(
                condition=models.Q(("port__gte", 1), ("port__lte", 65535)), name="peer_port"
            ),
        ),
        migrations.AddIndex(
            model_name="v2message",
            index=models.Index(
                condition=models.Q(("direction", "in")),
                fields=["peer", "control_id"],
                name="v2message_control_id",
            ),
        ),
        migrations.AddIndex(
            model_name="v2message",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["peer", "id"], name="v2message_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="v2message",
            index=models.Index(fields=["peer", "-at"], name="v2message_recent"),
        ),
        migrations.AddConstraint(
            model_name="v2message",
            constraint=models.CheckConstraint(
                condition=models.Q(("direction__in", ("in", "out"))), name="v2message_direction"
            ),
        ),
        migrations.AddConstraint(
            model_name="v2message",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ("taken", "refused", "waiting", "sent", "held"))),
                name="v2message_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="v2message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("direction", "out"), ("event_id__isnull", False)),
                fields=("peer", "event_id", "kind", "person_id"),
                name="v2message_told_once",
            ),
        ),
    ]
