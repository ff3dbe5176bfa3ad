"""Appointments as cases of the ledger: booked, waited for, moved, missed; the rules of missing and appeal."""
