"""Addresses of this room."""

from django.urls import URLPattern, path

from lianxin.resident.schedules import pages_board, pages_book, pages_desk, pages_session, pages_template

app_name = "schedules"

urlpatterns: list[URLPattern] = [
    path("schedules", pages_board.show, name="board"),
    path("schedules/make", pages_board.make, name="make"),
    path("schedules/copy", pages_board.copy, name="copy"),
    path("schedules/templates", pages_template.index, name="templates"),
    path("schedules/templates/new", pages_template.new, name="template_new"),
    path("schedules/templates/<int:pk>", pages_template.edit, name="template"),
    path("schedules/templates/<int:pk>/day", pages_template.change_day, name="change_day"),
    path("schedules/changes/<int:pk>/undo", pages_template.undo_day, name="undo_day"),
    path("schedules/sessions/<int:pk>", pages_session.show, name="session"),
    path("schedules/sessions/<int:pk>/patient", pages_book.for_patient, name="for_patient"),
    path("schedules/sessions/<int:pk>/<str:name>", pages_session.act, name="act"),
    path("schedules/stop", pages_session.stop, name="stop"),
    path("schedules/stops", pages_session.stops, name="stops"),
    path("schedules/stops/<str:batch>", pages_session.stopped, name="stopped"),
    path("pools", pages_book.show, name="book"),
    path("pools/check-in", pages_book.check_in, name="check_in"),
    path("pools/book", pages_book.take, name="take"),
    path("pools/wait", pages_book.wait, name="wait"),
    path("pools/waiting/<int:pk>/<str:what>", pages_book.waiting, name="waiting"),
    path("pools/appointments/<str:number>/cancel", pages_book.cancel, name="cancel"),
    path("pools/slips/<str:number>", pages_book.slip, name="slip"),
    path("desk/today", pages_desk.today, name="today"),
    path("desk/today/<int:pk>/<str:what>", pages_desk.act, name="desk_act"),
]
