"""All addresses: each room's own list, and the ones for watchers. ``/fhir`` never reaches Django (see wsgi)."""

import importlib

from django.urls import include, path

from lianxin.config import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
]
for _room in ("lianxin.clinical.referral.urls", "lianxin.portal.urls"):
    try:
        importlib.import_module(_room)
    except (ImportError, AttributeError):
        continue
    urlpatterns.append(path("", include(_room)))
