"""Addresses of this room: the list, a new ECG, one ECG with its tracing, print, file and confirmation, recordings to check."""

from django.urls import URLPattern, path

from lianxin.regional.ecg import pages

app_name = "ecg"

urlpatterns: list[URLPattern] = [
    path("ecg", pages.index, name="index"),
    path("ecg/new", pages.new, name="new"),
    path("ecg/review/<int:pk>", pages.settle, name="settle"),
    path("ecg/<str:number>", pages.show, name="show"),
    path("ecg/<str:number>/upload", pages.upload, name="upload"),
    path("ecg/<str:number>/confirm", pages.confirm, name="confirm"),
    path("ecg/<str:number>/trace.svg", pages.trace, name="trace"),
    path("ecg/<str:number>/print.pdf", pages.print_pdf, name="print"),
    path("ecg/<str:number>/original/<int:pk>", pages.original, name="original"),
]
