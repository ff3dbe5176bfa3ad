"""Addresses of this room."""

from django.urls import path

from lianxin.regional.archive import pages

app_name = "archive"

urlpatterns = [
    path("archive", pages.overview, name="overview"),
    path("archive/devices", pages.devices, name="devices"),
    path("archive/devices/new", pages.device, name="device_new"),
    path("archive/devices/<int:pk>", pages.device, name="device"),
    path("archive/devices/<int:pk>/echo", pages.device_echo, name="device_echo"),
    path("archive/quarantine", pages.waiting, name="quarantine"),
    path("archive/quarantine/<int:pk>", pages.reconcile, name="reconcile"),
    path("archive/quarantine/<int:pk>/image/<int:instance>", pages.picture, name="picture"),
]
