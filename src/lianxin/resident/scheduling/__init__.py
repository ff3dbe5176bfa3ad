"""The doors of the pool: FHIR scheduling, HL7 v2 SIU, and a hospital's own booking system kept in step."""
