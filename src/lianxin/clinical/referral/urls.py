"""Addresses of the referral pages: new, one referral, desks, follow-ups, flow, catalogues."""

from django.urls import path

from lianxin.clinical.referral import (
    pages,
    pages_catalogue,
    pages_desk,
    pages_flow,
    pages_followup,
    pages_new,
)

app_name = "referral"

urlpatterns = [
    path("referrals/new", pages_new.new, name="new"),
    path("referrals/new/answer", pages_new.answer, name="new_answer"),
    path("referrals/<str:number>", pages.show, name="show"),
    path("referrals/<str:number>/act/<slug:move>", pages.act, name="act"),
    path("referrals/<str:number>/form.pdf", pages.form_pdf, name="pdf"),
    path("desk/receiving", pages_desk.receiving, name="receiving"),
    path("desk/down", pages_desk.down, name="down"),
    path("desk/reception", pages_desk.reception, name="reception"),
    path("followups", pages_followup.mine, name="followups"),
    path("followups/<str:number>", pages_followup.show, name="followup"),
    path("followups/<str:number>/act/<slug:move>", pages_followup.act, name="followup_act"),
    path("flow", pages_flow.flow, name="flow"),
    path("flow/cases", pages_flow.cases, name="flow_cases"),
    path("catalogues", pages_catalogue.listing, name="catalogues"),
    path("catalogues/<int:pk>", pages_catalogue.show, name="catalogue"),
]
