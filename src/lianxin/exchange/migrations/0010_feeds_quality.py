import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0009_client_vendor"),
        ("duty", "0002_about_nobody"),
        ("exchange", "0009_settlement"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="ContentMark",
            fields=[
                (
                    "institution",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="network.institution",
                    ),
                ),
                ("mark", models.BigIntegerField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "institution_id",
                        "mark",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("ids", models.BigIntegerField()),
                ("piece", models.BigIntegerField()),
                ("control_id", models.CharField(blank=True, max_length=199)),
                ("day", models.DateField()),
            ],
        ),
        migrations.CreateModel(
            name="DataProblem",
            fields=[
                (
                    "case",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="data_problem",
                        serialize=False,
                        to="duty.case",
                    ),
                ),
                ("door", models.CharField(max_length=10)),
                ("kind", models.CharField(max_length=60)),
                ("rule", models.CharField(max_length=60)),
                ("severity", models.CharField(max_length=10)),
                ("week", models.DateField()),
                ("number", models.IntegerField(default=0)),
                (
                    "arrivals",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), default=list, size=None
                    ),
                ),
                ("mended", models.IntegerField(default=0)),
                ("replacements", models.JSONField(default=dict)),
                ("note", models.CharField(blank=True, max_length=500)),
            ],
        ),
        migrations.CreateModel(
            name="QualityDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("part", models.SmallIntegerField()),
                ("vendor", models.CharField(blank=True, max_length=80)),
                ("door", models.CharField(max_length=10)),
                ("kind", models.CharField(max_length=60)),
                ("arrivals", models.IntegerField()),
                ("taken", models.IntegerField()),
                ("refused", models.IntegerField()),
                ("quarantined", models.IntegerField()),
                ("dropped", models.IntegerField()),
                ("findings", models.IntegerField()),
                ("late", models.IntegerField()),
                ("timed", models.IntegerField()),
                ("lag_seconds", models.BigIntegerField()),
                ("lag_most", models.BigIntegerField()),
                ("completeness", models.FloatField()),
                ("timeliness", models.FloatField()),
                ("consistency", models.FloatField()),
                ("uniqueness", models.FloatField()),
                ("validity", models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name="QualityMark",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("counted", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Replay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("asked", models.JSONField()),
                ("upto", models.BigIntegerField()),
                (
                    "institutions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
                ("account_id", models.BigIntegerField(null=True)),
                ("by", models.CharField(blank=True, max_length=80)),
                ("total", models.IntegerField()),
                ("done", models.IntegerField(default=0)),
                ("taken", models.IntegerField(default=0)),
                ("last", models.BigIntegerField(default=0)),
                ("state", models.CharField(default="waiting", max_length=8)),
                ("created_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="RuleSetting",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("rule", models.CharField(max_length=60)),
                ("severity", models.CharField(blank=True, max_length=10)),
                ("thresholds", models.JSONField(default=dict)),
                ("effective_from", models.DateField()),
                ("reason", models.CharField(max_length=400)),
                ("made_by", models.CharField(blank=True, max_length=80)),
                ("made_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="WeeklyReport",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("week", models.DateField()),
                ("content", models.JSONField()),
                ("made_at", models.DateTimeField()),
            ],
        ),
        migrations.AddIndex(
            model_name="arrival",
            index=models.Index(
                condition=models.Q(("attempts__gt", 1)), fields=["done_at"], name="arrival_tried_again"
            ),
        ),
        migrations.AddField(
            model_name="dataproblem",
            name="desk",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="network.institution"
            ),
        ),
        migrations.AddField(
            model_name="dataproblem",
            name="institution",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="network.institution"
            ),
        ),
        migrations.AddField(
            model_name="qualityday",
            name="institution",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.institution",
            ),
        ),
        migrations.AddIndex(
            model_name="replay",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["id"], name="replay_waiting"
            ),
        ),
        migrations.AddConstraint(
            model_name="replay",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["waiting", "done", "stopped"])), name="replay_state"
            ),
        ),
        migrations.AddField(
            model_name="rulesetting",
            name="consortium",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="network.consortium",
            ),
        ),
        migrations.AddField(
            model_name="rulesetting",
            name="institution",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.institution",
            ),
        ),
        migrations.AddField(
            model_name="weeklyreport",
            name="institution",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="network.institution"
            ),
        ),
        migrations.AddIndex(
            model_name="contentmark",
            index=django.contrib.postgres.indexes.BrinIndex(fields=["day"], name="contentmark_day"),
        ),
        migrations.AddIndex(
            model_name="dataproblem",
            index=models.Index(fields=["institution", "week"], name="dataproblem_institution"),
        ),
        migrations.AddConstraint(
            model_name="dataproblem",
            constraint=models.UniqueConstraint(
                fields=("institution", "door", "kind", "rule", "week"), name="dataproblem_once"
            ),
        ),
        migrations.AddIndex(
            model_name="qualityday",
            index=models.Index(fields=["institution", "day"], name="qualityday_institution"),
        ),
        migrations.AddConstraint(
            model_name="qualityday",
            constraint=models.UniqueConstraint(
                fields=("day", "part", "institution", "vendor", "door", "kind"),
                name="qualityday_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="rulesetting",
            constraint=models.UniqueConstraint(
                fields=("rule", "consortium", "institution", "effective_from"),
                name="rulesetting_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="rulesetting",
            constraint=models.CheckConstraint(
                condition=models.Q(("severity__in", ["", "off", "refuse", "quarantine", "warn"])),
                name="rulesetting_severity",
            ),
        ),
        migrations.AddConstraint(
            model_name="rulesetting",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("consortium__isnull", True), ("institution__isnull", True), _connector="OR"
                ),
                name="rulesetting_one_place",
            ),
        ),
        migrations.AddConstraint(
            model_name="weeklyreport",
            constraint=models.UniqueConstraint(fields=("institution", "week"), name="weeklyreport_once"),
        ),
    ]
