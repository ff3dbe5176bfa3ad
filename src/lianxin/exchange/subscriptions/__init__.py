"""Subscriptions: systems are told of changes of the record (FHIR R4 rest-hook, and topics as the R5 backport says).

The record is the log (``record.feed``).  ``matching`` reads it slice by slice and writes an *event* for each subscription it
concerns, numbered without gaps; ``sending`` carries events to their receivers, in order, at least once, later and later while
a receiver does not answer; ``worker`` is the loop of both, in a thread of the ticker.  ``criteria`` reads a Subscription,
``topics`` are the topics we offer, ``content`` makes what is sent, ``wire`` sends it and nowhere it must not go,
``ownership`` says what its client may see now, ``lifecycle`` moves it from requested to active, error and off,
``fhir`` is its part of the FHIR door, ``pages`` the administrator's view.
"""
