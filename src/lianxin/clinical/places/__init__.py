"""Beds, examinations and theatres of the whole consortium, and one plan for a referral that needs several."""
