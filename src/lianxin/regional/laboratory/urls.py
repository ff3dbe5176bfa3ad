"""Addresses of this room: the collector's side (/specimens), the laboratory's (/laboratory), one piece of work with its moves."""

from django.urls import URLPattern, path

from lianxin.regional.laboratory import pages_case, pages_desk, pages_field, pages_qc

app_name = "laboratory"

urlpatterns: list[URLPattern] = [
    path("specimens", pages_field.specimens, name="specimens"),
    path("specimens/labels.pdf", pages_field.labels_pdf, name="labels"),
    path("specimens/boxes", pages_field.boxes, name="boxes"),
    path("specimens/boxes/<str:number>", pages_field.box, name="box"),
    path("specimens/boxes/<str:number>/label.pdf", pages_field.box_pdf, name="box_label"),
    path("laboratory", pages_desk.desk, name="desk"),
    path("laboratory/receive", pages_desk.receive, name="receive"),
    path("laboratory/receive/<str:number>", pages_desk.receive_box, name="receive_box"),
    path("laboratory/strays", pages_desk.strays, name="strays"),
    path("laboratory/kept", pages_desk.kept, name="kept"),
    path("laboratory/rules", pages_desk.rules, name="rules"),
    path("laboratory/statistics", pages_desk.figures, name="figures"),
    path("laboratory/controls", pages_qc.controls, name="controls"),
    path("laboratory/controls/<int:pk>", pages_qc.control, name="control"),
    path("laboratory/cases/<str:number>", pages_case.case, name="case"),
    path("laboratory/cases/<str:number>/<str:move>", pages_case.case_act, name="case_act"),
]
