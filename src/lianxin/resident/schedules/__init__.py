"""Pages for those who run the numbers: schedule board, templates, roster, stop-clinic, today's desk."""
