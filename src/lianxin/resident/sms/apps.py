from django.apps import AppConfig


class SmsConfig(AppConfig):
    name = "lianxin.resident.sms"
    label = "sms"
