"""The record keeps its tables in ``schema.sql``; there are no ORM models here."""
