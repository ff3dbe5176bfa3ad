"""All addresses: each room's own list, and the ones for watchers. ``/fhir`` never reaches Django (see wsgi)."""

from django.urls import include, path

from lianxin.config import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("", include("lianxin.exchange.bulk.urls")),
    path("", include("lianxin.exchange.feeds.urls")),
    path("auth/", include("lianxin.exchange.smart.urls")),
    path("", include("lianxin.exchange.subscriptions.pages")),
    path("", include("lianxin.exchange.v2.pages")),
    path("", include("lianxin.exchange.ihe.pages")),
    path("", include("lianxin.exchange.rosters.pages")),
    path("", include("lianxin.clinical.referral.urls")),
    path("", include("lianxin.resident.sms.urls")),
    path("", include("lianxin.resident.card.urls")),
    path("", include("lianxin.resident.booking.urls")),
    path("", include("lianxin.resident.scheduling.urls")),
    path("", include("lianxin.resident.schedules.urls")),
    path("", include("lianxin.resident.quotas.urls")),
    path("", include("lianxin.resident.phone.urls")),
    path("", include("lianxin.clinical.places.urls")),
    path("", include("lianxin.clinical.recognition.urls")),
    path("", include("lianxin.regional.archive.urls")),
    path("", include("lianxin.regional.critical.urls")),
    path("", include("lianxin.regional.reading.urls")),
    path("", include("lianxin.regional.imaging.urls")),
    path("", include("lianxin.regional.ecg.urls")),
    path("", include("lianxin.regional.emergency.urls")),
    path("", include("lianxin.regional.laboratory.urls")),
    path("", include("lianxin.regional.pathology.urls")),
    path("", include("lianxin.regional.ordering.urls")),
    path("", include("lianxin.regional.consult.urls")),
    path("", include("lianxin.regional.sterile.urls")),
    path("", include("lianxin.portal.urls")),
]
