"""Addresses of this room: consultations, the expert pool, outreach and teaching."""

from django.urls import URLPattern, path

from lianxin.regional.consult import pages, pages_new
from lianxin.regional.consult.outreach import pages as outreach

app_name = "consult"

urlpatterns: list[URLPattern] = [
    path("consults", pages.index, name="index"),
    path("consults/new", pages_new.new, name="new"),
    path("consults/experts", pages.experts, name="experts"),
    path("consults/experts/<int:pk>", pages.expert, name="expert"),
    path("consults/fees", pages.money, name="fees"),
    path("consults/consent/<str:number>.pdf", pages_new.consent_form, name="consent_form"),
    path("consults/<str:number>", pages.show, name="show"),
    path("consults/<str:number>/draft", pages.draft, name="draft"),
    path("consults/<str:number>/materials", pages_new.materials, name="materials"),
    path("consults/<str:number>/materials/<int:pk>", pages.material, name="material"),
    path("consults/<str:number>/evaluate", pages.evaluate, name="evaluate"),
    path("consults/<str:number>/consent", pages.consent_scan, name="consent"),
    path("consults/<str:number>/opinion.pdf", pages.paper, name="paper"),
    path("consults/<str:number>/<str:move>", pages.act, name="act"),
    path("outreach", outreach.index, name="outreach"),
    path("outreach/new", outreach.new, name="outreach_new"),
    path("outreach/statistics", outreach.statistics, name="outreach_statistics"),
    path("outreach/learning", outreach.learning_list, name="learning"),
    path("outreach/learning/certificate.pdf", outreach.certificate, name="certificate"),
    path("outreach/learning/<int:pk>", outreach.learning_one, name="learning_one"),
    path("outreach/<int:pk>", outreach.assignment, name="assignment"),
    path("outreach/<int:pk>/day", outreach.day, name="outreach_day"),
    path("outreach/<int:pk>/lesson", outreach.lesson, name="outreach_lesson"),
    path("outreach/<int:pk>/end", outreach.end, name="outreach_end"),
    path("outreach/days/<int:pk>", outreach.answer, name="outreach_answer"),
]
