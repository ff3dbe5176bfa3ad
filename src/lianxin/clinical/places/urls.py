"""Addresses of this room: bed board, examinations, theatres, the joint plan of a referral."""

from django.urls import path

from lianxin.clinical.places import pages_beds, pages_exams, pages_joint, pages_theatres

app_name = "places"

urlpatterns = [
    path("beds", pages_beds.board, name="beds"),
    path("beds/<int:pk>/<slug:verb>", pages_beds.one, name="bed_act"),
    path("beds/<int:pk>/<slug:verb>/now", pages_beds.act, name="bed_do"),
    path("exams", pages_exams.listing, name="exams"),
    path("exams/book", pages_exams.book, name="book"),
    path("exams/<int:pk>", pages_exams.booked, name="booked"),
    path("exams/<int:pk>/sheet.pdf", pages_exams.sheet, name="sheet"),
    path("exams/<int:pk>/<slug:verb>", pages_exams.change, name="exam_act"),
    path("theatres", pages_theatres.board, name="theatres"),
    path("theatres/<int:pk>/<slug:verb>", pages_theatres.change, name="theatre_act"),
    path("referrals/<str:number>/plan", pages_joint.joint, name="joint"),
    path("referrals/<str:number>/preparation.pdf", pages_joint.sheets, name="sheets"),
]
