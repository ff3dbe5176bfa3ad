from django.apps import AppConfig


class ConsultConfig(AppConfig):
    name = "lianxin.regional.consult"
    label = "consult"
