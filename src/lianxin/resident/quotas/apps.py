from django.apps import AppConfig


class QuotasConfig(AppConfig):
    name = "lianxin.resident.quotas"
    label = "quotas"
