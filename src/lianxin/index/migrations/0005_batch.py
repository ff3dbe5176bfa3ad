"""What batches leave behind: proposals, loads, a day's figures; and a small index to find a day's events by their time."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("index", "0004_reviews"),
        ("network", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="LoadedSlice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("load", models.BinaryField(max_length=32)),
                ("number", models.PositiveIntegerField()),
                ("rows", models.PositiveIntegerField()),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "index_loadedslice",
                "constraints": [
                    models.UniqueConstraint(fields=("load", "number"), name="index_loadedslice_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Proposal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("model_version", models.CharField(max_length=64)),
                ("engine", models.CharField(default="duckdb", max_length=8)),
                ("state", models.CharField(default="building", max_length=8)),
                ("made_at", models.DateTimeField()),
                ("made_by", models.CharField(blank=True, max_length=120)),
                ("figures", models.JSONField(default=dict)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, max_length=300)),
                (
                    "decided_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "db_table": "index_proposal",
            },
        ),
        migrations.CreateModel(
            name="ProposedChange",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(max_length=8)),
                ("person_a", models.BigIntegerField()),
                ("person_b", models.BigIntegerField(null=True)),
                (
                    "sources",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("bits", models.FloatField(default=0)),
                ("probability", models.FloatField(default=0)),
                ("parts", models.JSONField(default=list)),
                ("reason", models.CharField(blank=True, max_length=16)),
                ("records", models.PositiveIntegerField(default=0)),
                ("state", models.CharField(default="open", max_length=8)),
                (
                    "event_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("why_not", models.CharField(blank=True, max_length=300)),
                (
                    "proposal",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="changes",
                        to="index.proposal",
                    ),
                ),
            ],
            options={
                "db_table": "index_proposedchange",
            },
        ),
        migrations.CreateModel(
            name="Day",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("registrations", models.PositiveIntegerField(default=0)),
                ("linked", models.PositiveIntegerField(default=0)),
                ("created", models.PositiveIntegerField(default=0)),
                ("reviews", models.PositiveIntegerField(default=0)),
                ("suspected", models.PositiveIntegerField(default=0)),
                ("doubles", models.PositiveIntegerField(default=0)),
                ("people", models.PositiveIntegerField(default=0)),
                ("alone", models.PositiveIntegerField(default=0)),
                ("sampled", models.PositiveIntegerField(default=0)),
                ("no_id", models.PositiveIntegerField(default=0)),
                ("wrong_id", models.PositiveIntegerField(default=0)),
                ("no_birth", models.PositiveIntegerField(default=0)),
                ("no_phone", models.PositiveIntegerField(default=0)),
                ("generic", models.PositiveIntegerField(default=0)),
                ("nameless", models.PositiveIntegerField(default=0)),
                (
                    "institution",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="network.institution",
                    ),
                ),
            ],
            options={
                "db_table": "index_day",
                "indexes": [models.Index(fields=["day"], name="index_day_day")],
                "constraints": [
                    models.UniqueConstraint(fields=("institution", "day"), name="index_day_once")
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        (
                            "building",
                            "ready",
                            "applying",
                            "applied",
                            "refused",
                            "undoing",
                            "undone",
                            "failed",
                        ),
                    )
                ),
                name="index_proposal_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("applying", "undoing"))),
                fields=("state",),
                name="index_proposal_one_at_work",
            ),
        ),
        migrations.AddIndex(
            model_name="proposedchange",
            index=models.Index(fields=["proposal", "state", "kind", "id"], name="index_proposedchange_turn"),
        ),
        migrations.AddConstraint(
            model_name="proposedchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ("join", "split", "review"))),
                name="index_proposedchange_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposedchange",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ("open", "applied", "skipped", "undone"))),
                name="index_proposedchange_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposedchange",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("person_b__isnull", True),
                    models.Q(("person_a", models.F("person_b")), _negated=True),
                    _connector="OR",
                ),
                name="index_proposedchange_two",
            ),
        ),
        migrations.RunSQL(
            "CREATE INDEX index_linkevent_at ON index_linkevent USING brin (at)",
            "DROP INDEX index_linkevent_at",
        ),
    ]
