"""Addresses below /bulk/."""

from django.urls import path

from lianxin.exchange.bulk import views

app_name = "bulk"

urlpatterns = [
    path("bulk/jobs/<uuid:pk>", views.job, name="job"),
    path("bulk/files/<uuid:pk>/<int:number>.ndjson", views.file, name="file"),
    path("bulk/upload", views.upload, name="upload"),
    path("bulk/uploads/<uuid:pk>", views.uploaded, name="uploaded"),
]
