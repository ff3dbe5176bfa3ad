"""ECGs that came through the image archive (DICOM C-STORE or STOW): a study of modality ECG for an order becomes its recording."""

from __future__ import annotations

import logging

from lianxin.access.scope import Scope
from lianxin.duty.errors import MoveError, Refused
from lianxin.regional.archive import store
from lianxin.regional.archive.models import Study
from lianxin.regional.ecg import importing, service
from lianxin.regional.reading.models import Reading

log = logging.getLogger(__name__)


def on_study(study: Study) -> None:
    """Take every waveform of a complete study for the order of its accession number. Being told twice changes nothing.

    An object that is no ECG waveform (a device's PDF beside it) stays in the archive and is not read; a report that is out keeps the
    recording in the archive only.
    """
    if study.state != "stored" or not study.accession or "ECG" not in (study.modality, *study.modalities):
        return
    reading = Reading.objects.unscoped("the archive knows the accession number").filter(accession=study.accession, centre="ecg", live=True).first()  # fmt: skip
    if reading is None or reading.person_id != study.person_id:
        return
    for instance in study.items.filter(live=True).order_by("number", "pk"):
        if instance.size > importing.MAX_BYTES:
            continue
        with store.opened(instance.path) as file:
            data = bytes(file[:])
        try:
            recording = importing.read(data, f"{instance.sop_uid}.dcm")
        except Refused:
            log.info("instance %s of study %s is no ECG recording", instance.pk, study.pk)
            continue
        try:
            service.take(Scope.system("an ECG arrived at the archive"), reading, f"{instance.sop_uid}.dcm", data, source="archive", recording=recording)  # fmt: skip
        except (Refused, MoveError) as refusal:
            log.info("ECG of study %s is not taken for %s: %s", study.pk, reading.accession, refusal)
