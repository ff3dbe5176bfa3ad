"""SMART on FHIR (SMART App Launch 2.2): how systems and apps get their tokens.

``keys`` reads clients' public keys and holds ours, ``proof`` finds out which client calls, ``wanted`` decides which scopes it
gets, ``grants`` makes codes, tokens and refresh tokens and answers questions about them, ``token_views`` are the addresses that
machines call, ``pages`` the ones a person sees when an app is opened, ``discovery`` tells clients where everything is.
What a token then reaches is not decided here but in ``access.sharing`` and ``record.visible``.
"""
