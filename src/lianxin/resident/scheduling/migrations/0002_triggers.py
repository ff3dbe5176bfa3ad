from django.db import migrations

from lianxin.resident.scheduling import triggers


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0001_initial")]

    operations = [migrations.RunSQL(triggers.FORWARD, triggers.BACKWARD)]
