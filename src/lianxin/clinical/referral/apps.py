from django.apps import AppConfig


class ReferralConfig(AppConfig):
    name = "lianxin.clinical.referral"
    label = "referral"
