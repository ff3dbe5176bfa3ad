"""Addresses of the pages about one person: find, register, the record, an encounter note. Included by ``portal.urls``."""

from django.urls import path

from lianxin.portal import people, people_chart, people_door, people_note, people_register

urlpatterns = [
    path("people", people.find, name="people"),
    path("people/new", people_register.register, name="person_new"),
    path("people/codes", people_note.codes_search, name="diagnosis_codes"),
    path("people/<str:number>", people_chart.show, name="person"),
    path("people/<str:number>/check-in", people_door.check_in, name="person_check_in"),
    path("people/<str:number>/break-glass", people_door.break_glass, name="person_break_glass"),
    path("people/<str:number>/document/<str:rtype>/<str:rid>", people_chart.document, name="person_document"),
    path("people/<str:number>/note", people_note.note, name="person_note"),
    path("people/<str:number>/note/answer", people_note.answer, name="person_note_answer"),
    path("people/<str:number>/consent", people_door.consent, name="person_consent"),
]
