"""A slide belongs to its block, a block to its specimen, a specimen to its case: held by foreign keys of two columns each."""

from django.db import migrations

_ADD = """
ALTER TABLE pathology_block ADD CONSTRAINT pathology_block_of_specimen
  FOREIGN KEY (specimen_id, reading_id) REFERENCES pathology_specimen (id, reading_id);
ALTER TABLE pathology_slide ADD CONSTRAINT pathology_slide_of_block
  FOREIGN KEY (block_id, reading_id) REFERENCES pathology_block (id, reading_id);
ALTER TABLE pathology_picture ADD CONSTRAINT pathology_picture_of_specimen
  FOREIGN KEY (specimen_id, reading_id) REFERENCES pathology_specimen (id, reading_id);
ALTER TABLE pathology_picture ADD CONSTRAINT pathology_picture_of_slide
  FOREIGN KEY (slide_id, reading_id) REFERENCES pathology_slide (id, reading_id);
"""
_DROP = """
ALTER TABLE pathology_picture DROP CONSTRAINT pathology_picture_of_slide;
ALTER TABLE pathology_picture DROP CONSTRAINT pathology_picture_of_specimen;
ALTER TABLE pathology_slide DROP CONSTRAINT pathology_slide_of_block;
ALTER TABLE pathology_block DROP CONSTRAINT pathology_block_of_specimen;
"""


class Migration(migrations.Migration):
    dependencies = [("pathology", "0001_initial")]

    operations = [migrations.RunSQL(_ADD, _DROP)]
