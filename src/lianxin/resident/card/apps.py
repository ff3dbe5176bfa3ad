from django.apps import AppConfig


class CardConfig(AppConfig):
    name = "lianxin.resident.card"
    label = "card"
