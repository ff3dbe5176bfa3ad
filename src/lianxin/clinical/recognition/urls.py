"""Addresses of this room: figures and decisions, what decides about recognition, and CDS Hooks."""

from django.urls import URLPattern, path

from lianxin.clinical.recognition import cds, pages, pages_keep

app_name = "recognition"

urlpatterns: list[URLPattern] = [
    path("recognition", pages.overview, name="overview"),
    path("recognition/decisions", pages.decisions, name="decisions"),
    path("recognition/decisions/<int:pk>", pages.decision, name="decision"),
    path("recognition/decisions/<int:pk>/explain.pdf", pages.explain, name="explain"),
    path("recognition/groups", pages_keep.groups, name="groups"),
    path("recognition/groups/upload", pages_keep.upload_terms, name="upload_terms"),
    path("recognition/groups/<str:code>", pages_keep.group, name="group"),
    path("recognition/rules", pages_keep.rules, name="rules"),
    path("recognition/rules/<int:pk>/end", pages_keep.end_rule, name="end_rule"),
    path("recognition/quality", pages_keep.assessments, name="assessments"),
    path("recognition/quality/upload", pages_keep.upload_assessments, name="upload_assessments"),
    path("cds-services", cds.discovery, name="cds"),
    path("cds-services/<str:service>", cds.call, name="cds_service"),
    path("cds-services/<str:service>/feedback", cds.feedback, name="cds_feedback"),
]
