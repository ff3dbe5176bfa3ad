"""Settlement detail: batches, their files and control sheets, lines, providers, and rows against rules."""

import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0009_client_vendor"),
        ("exchange", "0008_documents"),
        ("network", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SettlementBatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("control_name", models.CharField(blank=True, max_length=200)),
                ("same", models.BinaryField(max_length=16)),
                ("same_control", models.BinaryField(max_length=16)),
                ("state", models.CharField(default="uploaded", max_length=9)),
                ("arrival_id", models.BigIntegerField(null=True)),
                ("rows", models.IntegerField(default=0)),
                ("rejected", models.IntegerField(default=0)),
                ("total", models.BigIntegerField(default=0)),
                ("fund", models.BigIntegerField(default=0)),
                ("first_day", models.DateField(null=True)),
                ("last_day", models.DateField(null=True)),
                ("differences", models.IntegerField(null=True)),
                ("report", models.JSONField(default=dict)),
                ("at", models.DateTimeField()),
                ("checked_at", models.DateTimeField(null=True)),
                ("decided_at", models.DateTimeField(null=True)),
                ("reason", models.TextField(blank=True)),
            ],
        ),
        migrations.CreateModel(
            name="SettlementControl",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("row", models.IntegerField()),
                ("provider", models.CharField(blank=True, max_length=200)),
                ("scheme", models.CharField(blank=True, max_length=8)),
                ("month", models.CharField(blank=True, max_length=7)),
                ("rows", models.BigIntegerField(null=True)),
                ("total", models.BigIntegerField(null=True)),
                ("fund", models.BigIntegerField(null=True)),
                ("whole", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="SettlementFile",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("role", models.CharField(max_length=7)),
                ("number", models.IntegerField()),
                ("body", models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name="SettlementIssue",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("row", models.IntegerField()),
                ("settlement_id", models.CharField(blank=True, max_length=60)),
                ("provider", models.CharField(blank=True, max_length=60)),
                ("scheme", models.CharField(blank=True, max_length=8)),
                ("month", models.CharField(blank=True, max_length=7)),
                ("total", models.BigIntegerField(null=True)),
                ("fund", models.BigIntegerField(null=True)),
                ("rule", models.CharField(max_length=40)),
                ("severity", models.CharField(max_length=6)),
                ("column", models.CharField(blank=True, max_length=40)),
                ("zh", models.TextField()),
                ("en", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="SettlementLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("row", models.IntegerField()),
                ("settlement_id", models.CharField(max_length=60)),
                ("version", models.SmallIntegerField(default=1)),
                ("digest", models.BinaryField(max_length=16)),
                ("current", models.BooleanField()),
                ("reversal", models.BooleanField(default=False)),
                ("reverses", models.CharField(blank=True, max_length=60)),
                ("person_id", models.BigIntegerField(null=True)),
                ("id_blind", models.BinaryField(max_length=16, null=True)),
                ("body", models.BinaryField()),
                ("scheme", models.CharField(max_length=8)),
                ("care", models.CharField(max_length=10)),
                ("insured_place", models.CharField(blank=True, max_length=12)),
                ("admitted_on", models.DateField(null=True)),
                ("discharged_on", models.DateField(null=True)),
                ("settled_on", models.DateField()),
                ("diagnosis", models.CharField(blank=True, max_length=20)),
                ("grouped", models.CharField(blank=True, max_length=40)),
                ("excluded", models.BooleanField(default=False)),
                ("total", models.BigIntegerField()),
                ("in_scope", models.BigIntegerField(null=True)),
                ("self_pay", models.BigIntegerField(null=True)),
                ("fund", models.BigIntegerField()),
                ("pool", models.BigIntegerField(null=True)),
                ("big", models.BigIntegerField(null=True)),
                ("aid", models.BigIntegerField(null=True)),
                ("other_fund", models.BigIntegerField(null=True)),
                ("account", models.BigIntegerField(null=True)),
                ("cash", models.BigIntegerField(null=True)),
                ("personal", models.BigIntegerField(null=True)),
                ("hospital", models.BigIntegerField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="SettlementProvider",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("code", models.CharField(max_length=60)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("place", models.CharField(default="unknown", max_length=8)),
                ("tier", models.CharField(blank=True, max_length=12)),
                ("how", models.CharField(default="rule", max_length=6)),
                ("own_since", models.DateField(null=True)),
                ("own_until", models.DateField(null=True)),
            ],
        ),
        migrations.AddField(
            model_name="settlementbatch",
            name="account",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="settlementbatch",
            name="client",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="access.client"
            ),
        ),
        migrations.AddField(
            model_name="settlementbatch",
            name="consortium",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="network.consortium"
            ),
        ),
        migrations.AddField(
            model_name="settlementbatch",
            name="decided_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="settlementbatch",
            name="institution",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.institution",
            ),
        ),
        migrations.AddField(
            model_name="settlementcontrol",
            name="batch",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="controls",
                to="exchange.settlementbatch",
            ),
        ),
        migrations.AddField(
            model_name="settlementfile",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="files",
                to="exchange.settlementbatch",
            ),
        ),
        migrations.AddField(
            model_name="settlementissue",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="issues",
                to="exchange.settlementbatch",
            ),
        ),
        migrations.AddField(
            model_name="settlementline",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="lines",
                to="exchange.settlementbatch",
            ),
        ),
        migrations.AddField(
            model_name="settlementline",
            name="consortium",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.consortium",
            ),
        ),
        migrations.AddField(
            model_name="settlementprovider",
            name="consortium",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.consortium",
            ),
        ),
        migrations.AddField(
            model_name="settlementprovider",
            name="institution",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="network.institution",
            ),
        ),
        migrations.AddField(
            model_name="settlementline",
            name="provider",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="exchange.settlementprovider",
            ),
        ),
        migrations.AddIndex(
            model_name="settlementbatch",
            index=models.Index(fields=["consortium", "-at"], name="settlementbatch_recent"),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ("uploaded", "checked", "held", "accepted", "withdrawn", "refused"))
                ),
                name="settlementbatch_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ("uploaded", "refused")),
                    ("checked_at__isnull", False),
                    ("state", "withdrawn"),
                    _connector="OR",
                ),
                name="settlementbatch_checked",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state__in", ("held", "accepted")), _negated=True),
                    models.Q(("decided_at__isnull", False), ("differences__isnull", False)),
                    _connector="OR",
                ),
                name="settlementbatch_compared",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "accepted"), _negated=True),
                    ("differences", 0),
                    models.Q(models.Q(("reason", ""), _negated=True), ("decided_by__isnull", False)),
                    _connector="OR",
                ),
                name="settlementbatch_accepted_by_whom",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "withdrawn"), _negated=True),
                    models.Q(("reason", ""), _negated=True),
                    _connector="OR",
                ),
                name="settlementbatch_withdrawn_why",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementbatch",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "withdrawn"), _negated=True),
                fields=("consortium", "same", "same_control"),
                name="settlementbatch_once",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="settlementbatch",
            trigger=pgtrigger.compiler.Trigger(
                name="moves",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    declare="DECLARE _is_valid_transition BOOLEAN;",
                    func='SELECT CONCAT(OLD."state", \':\', NEW."state") = ANY(\'{uploaded:checked,uploaded:refused,uploaded:withdrawn,refused:checked,refused:withdrawn,checked:held,checked:accepted,checked:withdrawn,held:accepted,held:withdrawn,accepted:withdrawn}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."state" IS DISTINCT FROM NEW."state") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "state" from "%" to "%" on table %\', OLD."state", NEW."state", TG_TABLE_NAME; ELSE RETURN NEW; END IF;',
                    hash="32fbc1c2be7b7d8f97b3bccdbd69cfcf57969d0d",
                    operation="UPDATE",
                    pgid="pgtrigger_moves_6ff4c",
                    table="exchange_settlementbatch",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementcontrol",
            constraint=models.CheckConstraint(
                condition=models.Q(("month", ""), ("month__regex", "^\\d{4}-\\d{2}$"), _connector="OR"),
                name="settlementcontrol_month",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementfile",
            constraint=models.UniqueConstraint(
                fields=("batch", "role", "number"), name="settlementfile_number"
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementfile",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ("detail", "control"))), name="settlementfile_role"
            ),
        ),
        migrations.AddIndex(
            model_name="settlementissue",
            index=models.Index(fields=["batch", "rule", "row"], name="settlementissue_batch"),
        ),
        migrations.AddConstraint(
            model_name="settlementissue",
            constraint=models.CheckConstraint(
                condition=models.Q(("severity__in", ("refuse", "warn"))), name="settlementissue_severity"
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementprovider",
            constraint=models.UniqueConstraint(fields=("consortium", "code"), name="settlementprovider_once"),
        ),
        migrations.AddConstraint(
            model_name="settlementprovider",
            constraint=models.CheckConstraint(
                condition=models.Q(("place__in", ("own", "other", "outside", "pharmacy", "unknown"))),
                name="settlementprovider_place",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementprovider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("tier", ""),
                    ("tier__in", ["village", "township", "county", "city", "province"]),
                    _connector="OR",
                ),
                name="settlementprovider_tier",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementprovider",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("place", "own"), _negated=True), ("institution__isnull", False), _connector="OR"
                ),
                name="settlementprovider_own",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementprovider",
            constraint=models.CheckConstraint(
                condition=models.Q(("how__in", ("code", "name", "rule", "person"))),
                name="settlementprovider_how",
            ),
        ),
        migrations.AddIndex(
            model_name="settlementline",
            index=models.Index(fields=["batch", "row"], name="settlementline_batch"),
        ),
        migrations.AddIndex(
            model_name="settlementline",
            index=models.Index(
                condition=models.Q(("current", True)),
                fields=["consortium", "settled_on"],
                name="settlementline_day",
            ),
        ),
        migrations.AddIndex(
            model_name="settlementline",
            index=models.Index(
                condition=models.Q(("person_id__isnull", False)),
                fields=["person_id", "settled_on"],
                name="settlementline_person",
            ),
        ),
        migrations.AddIndex(
            model_name="settlementline",
            index=models.Index(
                condition=models.Q(
                    ("current", True), ("id_blind__isnull", False), ("person_id__isnull", True)
                ),
                fields=["id"],
                name="settlementline_unlinked",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementline",
            constraint=models.UniqueConstraint(
                fields=("consortium", "settlement_id", "batch"), name="settlementline_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementline",
            constraint=models.UniqueConstraint(
                condition=models.Q(("current", True)),
                fields=("consortium", "settlement_id"),
                name="settlementline_one_current",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementline",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("scheme__in", ("employee", "resident", "other")),
                    (
                        "care__in",
                        ("outpatient", "emergency", "chronic", "inpatient", "maternity", "pharmacy", "other"),
                    ),
                ),
                name="settlementline_kinds",
            ),
        ),
        migrations.AddConstraint(
            model_name="settlementline",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("reversal", True), models.Q(("total__gte", 0), ("fund__gte", 0)), _connector="OR"
                ),
                name="settlementline_negative",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="settlementline",
            trigger=pgtrigger.compiler.Trigger(
                name="stands",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition='WHEN (OLD."account" IS DISTINCT FROM (NEW."account") OR OLD."admitted_on" IS DISTINCT FROM (NEW."admitted_on") OR OLD."aid" IS DISTINCT FROM (NEW."aid") OR OLD."batch_id" IS DISTINCT FROM (NEW."batch_id") OR OLD."big" IS DISTINCT FROM (NEW."big") OR OLD."body" IS DISTINCT FROM (NEW."body") OR OLD."care" IS DISTINCT FROM (NEW."care") OR OLD."cash" IS DISTINCT FROM (NEW."cash") OR OLD."consortium_id" IS DISTINCT FROM (NEW."consortium_id") OR OLD."diagnosis" IS DISTINCT FROM (NEW."diagnosis") OR OLD."digest" IS DISTINCT FROM (NEW."digest") OR OLD."discharged_on" IS DISTINCT FROM (NEW."discharged_on") OR OLD."excluded" IS DISTINCT FROM (NEW."excluded") OR OLD."fund" IS DISTINCT FROM (NEW."fund") OR OLD."grouped" IS DISTINCT FROM (NEW."grouped") OR OLD."hospital" IS DISTINCT FROM (NEW."hospital") OR OLD."id" IS DISTINCT FROM (NEW."id") OR OLD."id_blind" IS DISTINCT FROM (NEW."id_blind") OR OLD."in_scope" IS DISTINCT FROM (NEW."in_scope") OR OLD."insured_place" IS DISTINCT FROM (NEW."insured_place") OR OLD."other_fund" IS DISTINCT FROM (NEW."other_fund") OR OLD."personal" IS DISTINCT FROM (NEW."personal") OR OLD."pool" IS DISTINCT FROM (NEW."pool") OR OLD."provider_id" IS DISTINCT FROM (NEW."provider_id") OR OLD."reversal" IS DISTINCT FROM (NEW."reversal") OR OLD."reverses" IS DISTINCT FROM (NEW."reverses") OR OLD."row" IS DISTINCT FROM (NEW."row") OR OLD."scheme" IS DISTINCT FROM (NEW."scheme") OR OLD."self_pay" IS DISTINCT FROM (NEW."self_pay") OR OLD."settled_on" IS DISTINCT FROM (NEW."settled_on") OR OLD."settlement_id" IS DISTINCT FROM (NEW."settlement_id") OR OLD."total" IS DISTINCT FROM (NEW."total") OR OLD."version" IS DISTINCT FROM (NEW."version"))',
                    func="\n                    RAISE EXCEPTION 'settlementline_stands: a settlement line does not change; another content is another line'\n                        USING ERRCODE = 'check_violation';\n                ",
                    hash="591504a3265ddc9dc598ebf3a55ffbb319ccff2c",
                    operation="UPDATE",
                    pgid="pgtrigger_stands_9df9e",
                    table="exchange_settlementline",
                    when="BEFORE",
                ),
            ),
        ),
    ]
