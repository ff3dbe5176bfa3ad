import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0002_guards"),
        ("exchange", "0001_initial"),
        ("network", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="BulkJob",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("kind", models.CharField(max_length=10)),
                ("status", models.CharField(default="waiting", max_length=10)),
                ("scope", models.JSONField()),
                ("spec", models.JSONField()),
                ("request", models.TextField()),
                ("base", models.TextField()),
                ("as_of", models.DateTimeField()),
                ("created_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("served_at", models.DateTimeField()),
                ("failure_zh", models.TextField(blank=True)),
                ("failure_en", models.TextField(blank=True)),
                (
                    "client",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="access.client",
                    ),
                ),
                (
                    "institution",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="network.institution",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkBatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                ("subjects", models.JSONField()),
                ("people", models.JSONField()),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="batches",
                        to="exchange.bulkjob",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkLane",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                ("stage", models.SmallIntegerField(default=0)),
                ("rtype", models.CharField(max_length=60)),
                ("name", models.TextField(blank=True)),
                ("role", models.CharField(max_length=10)),
                ("status", models.CharField(default="waiting", max_length=10)),
                ("cursor", models.JSONField(default=dict)),
                ("count", models.BigIntegerField(default=0)),
                ("unchanged", models.BigIntegerField(default=0)),
                ("refused", models.BigIntegerField(default=0)),
                ("lease", models.IntegerField(default=0)),
                ("lease_until", models.DateTimeField(null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("not_before", models.DateTimeField(null=True)),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lanes",
                        to="exchange.bulkjob",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkFile",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                ("role", models.CharField(max_length=10)),
                ("rtype", models.CharField(max_length=60)),
                ("stored", models.CharField(max_length=80)),
                ("count", models.BigIntegerField()),
                ("size", models.BigIntegerField()),
                ("crc", models.BigIntegerField()),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="files",
                        to="exchange.bulkjob",
                    ),
                ),
                (
                    "lane",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="files",
                        to="exchange.bulklane",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkPerson",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "job_id", "person_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("person_id", models.BigIntegerField()),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="exchange.bulkjob"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkRefusal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("line", models.BigIntegerField()),
                (
                    "lane",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="refusals",
                        to="exchange.bulklane",
                    ),
                ),
                (
                    "letter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="exchange.deadletter",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkUpload",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("stored", models.CharField(max_length=80)),
                ("count", models.BigIntegerField()),
                ("size", models.BigIntegerField()),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(db_index=True)),
                (
                    "client",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="access.client",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="bulkjob",
            index=models.Index(
                condition=models.Q(("status__in", ("waiting", "running"))),
                fields=["served_at"],
                name="bulkjob_open",
            ),
        ),
        migrations.AddIndex(
            model_name="bulkjob",
            index=models.Index(fields=["-created_at"], name="bulkjob_recent"),
        ),
        migrations.AddConstraint(
            model_name="bulkjob",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ("export", "import"))), name="bulkjob_kind"
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("status__in", ("waiting", "running", "done", "failed", "cancelled", "expired"))
                ),
                name="bulkjob_status",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkjob",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("status__in", ("waiting", "running")), ("finished_at__isnull", False), _connector="OR"
                ),
                name="bulkjob_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkbatch",
            constraint=models.UniqueConstraint(fields=("job", "number"), name="bulkbatch_number"),
        ),
        migrations.AddIndex(
            model_name="bulklane",
            index=models.Index(
                condition=models.Q(("status", "waiting")),
                fields=["job", "stage", "number"],
                name="bulklane_todo",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulklane",
            constraint=models.UniqueConstraint(fields=("job", "number"), name="bulklane_number"),
        ),
        migrations.AddConstraint(
            model_name="bulklane",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ("waiting", "done", "failed"))), name="bulklane_status"
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkfile",
            constraint=models.UniqueConstraint(fields=("lane", "role", "number"), name="bulkfile_number"),
        ),
        migrations.AddConstraint(
            model_name="bulkfile",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ("output", "deleted", "error", "input"))),
                name="bulkfile_role",
            ),
        ),
        migrations.AddConstraint(
            model_name="bulkrefusal",
            constraint=models.UniqueConstraint(fields=("lane", "line"), name="bulkrefusal_line"),
        ),
    ]
