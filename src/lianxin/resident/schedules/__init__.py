"""Schedules and the desks that live by them: templates, roster changes, stop-clinic, booking for a patient, today's list.

``planning`` changes templates and sessions, ``stopping`` stops and opens them again, ``jobs`` makes sessions ahead, ``queue`` puts
those who have come in order; the ``pages_*`` modules show it. Every act of a page is an ``Act`` row under the key of the form it
came from, so that a double click does nothing twice.
"""
