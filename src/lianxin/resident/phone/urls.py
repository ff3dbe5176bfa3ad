"""Addresses of this room: a resident's pages under /m/, and the institution's answer to a correction."""

from django.urls import URLPattern, path

from lianxin.resident.phone import (
    display,
    pages_answer,
    pages_find,
    pages_home,
    pages_record,
    pages_trust,
    pages_visits,
    pages_who,
    pwa,
)

app_name = "phone"

urlpatterns: list[URLPattern] = [
    path("m/", pages_home.home, name="home"),
    path("m/type", display.type_size, name="type"),
    path("m/manifest.webmanifest", pwa.manifest, name="manifest"),
    path("m/sw.js", pwa.worker, name="worker"),
    path("m/offline", pwa.offline, name="offline"),
    path("m/who", pages_who.who, name="who"),
    path("m/find", pages_find.find, name="find"),
    path("m/numbers", pages_find.numbers, name="numbers"),
    path("m/numbers/<int:pk>", pages_find.session, name="session"),
    path("m/numbers/<int:pk>/book", pages_find.book, name="book"),
    path("m/numbers/<int:pk>/wait", pages_find.wait, name="wait"),
    path("m/visits", pages_visits.visits, name="visits"),
    path("m/visits/<str:number>", pages_visits.visit, name="visit"),
    path("m/visits/<str:number>/cancel", pages_visits.cancel, name="cancel"),
    path("m/waiting/<int:pk>", pages_visits.waiting_act, name="waiting"),
    path("m/appeal", pages_visits.appeal, name="appeal"),
    path("m/record", pages_record.overview, name="record"),
    path("m/record/results", pages_record.results, name="results"),
    path("m/record/list/<str:kind>", pages_record.listing, name="listing"),
    path("m/record/entries/<str:rtype>/<str:rid>", pages_record.item, name="item"),
    path("m/record/entries/<str:rtype>/<str:rid>/wrong", pages_trust.correct, name="correct"),
    path("m/record/documents/<int:pk>", pages_record.document, name="document"),
    path("m/record/documents/<int:pk>.pdf", pages_record.paper, name="paper"),
    path("m/referrals", pages_record.referrals, name="referrals"),
    path("m/referrals/<str:number>", pages_record.referral, name="referral"),
    path("m/me", pages_trust.me, name="me"),
    path("m/looked", pages_trust.looked, name="looked"),
    path("m/consents", pages_trust.consents, name="consents"),
    path("m/corrections", pages_trust.asked, name="asked"),
    path("m/corrections/<str:number>", pages_trust.correction, name="correction"),
    path("m/corrections/<str:number>/withdraw", pages_trust.take_back, name="take_back"),
    path("corrections/<str:number>", pages_answer.answer, name="answer"),
    path("corrections/<str:number>/<str:move>", pages_answer.answer, name="answer_act"),
]
