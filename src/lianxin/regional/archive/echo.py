"""Asking a device whether it is there."""

from __future__ import annotations

from django.conf import settings
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when it is imported

from lianxin.regional.archive.models import Device
from lianxin.standards import clock

SECONDS = 5


def answered(device: Device) -> bool:
    """Whether a device answers a C-ECHO within a few seconds; it is written down."""
    good = False
    if device.address and device.port:
        ae = AE(settings.LIANXIN_DICOM_AE)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = SECONDS
        ae.add_requested_context(Verification)
        association = ae.associate(device.address, device.port, ae_title=device.ae_title)
        if association.is_established:
            good = association.send_c_echo().get("Status", -1) == 0
            association.release()
    Device.objects.filter(pk=device.pk).update(echoed_at=clock.now(), echo_ok=good)
    return good
