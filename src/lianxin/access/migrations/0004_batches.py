"""One link for many audit events, how far each journal has been taken, and lighter indexes on the events."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models
from django.db.models import Q

FORWARD = """
CREATE TABLE access_journal (name text PRIMARY KEY, upto bigint NOT NULL);
DROP TRIGGER access_auditevent_chain ON access_auditevent;
CREATE CONSTRAINT TRIGGER access_auditevent_chain AFTER INSERT ON access_auditevent
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (coalesce(current_setting('lianxin.audit_link', true), '') <> 'later') EXECUTE FUNCTION access_chain();
"""
BACKWARD = """
DROP TRIGGER access_auditevent_chain ON access_auditevent;
CREATE CONSTRAINT TRIGGER access_auditevent_chain AFTER INSERT ON access_auditevent
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_chain();
DROP TABLE access_journal;
"""


class Migration(migrations.Migration):
    dependencies = [("access", "0003_smart")]
    operations = [
        migrations.AddField("chainlink", "more", ArrayField(models.BigIntegerField(), null=True)),
        migrations.RemoveIndex("auditevent", "access_audit_account"),
        migrations.RemoveIndex("auditevent", "access_audit_at"),
        migrations.AddIndex(
            "auditevent",
            models.Index(
                fields=["account_id", "at"],
                condition=Q(account_id__isnull=False),
                name="access_audit_account",
            ),
        ),
        migrations.AddIndex("auditevent", BrinIndex(fields=["at"], name="access_audit_at")),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
