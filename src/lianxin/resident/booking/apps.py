from django.apps import AppConfig


class BookingConfig(AppConfig):
    name = "lianxin.resident.booking"
    label = "booking"
