"""The audit chain and the append-only triggers (see lianxin.access.guards)."""

from django.db import migrations

from lianxin.access import guards


class Migration(migrations.Migration):
    dependencies = [("access", "0001_initial")]
    operations = [migrations.RunSQL(guards.FORWARD, guards.BACKWARD)]
