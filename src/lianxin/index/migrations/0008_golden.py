"""A person keeps whose word the contact is; where the other values come from is told by the sources when somebody looks."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("index", "0007_smaller")]

    operations = [
        migrations.AddField("person", "contact_source_id", models.BigIntegerField(null=True, blank=True)),
        migrations.RunSQL(
            "UPDATE index_person SET contact_source_id = (golden->>'contact')::bigint WHERE golden ? 'contact'",
            "UPDATE index_person SET golden = jsonb_build_object('contact', contact_source_id)"
            " WHERE contact_source_id IS NOT NULL",
        ),
        migrations.RemoveField("person", "golden"),
    ]
