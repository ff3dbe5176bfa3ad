"""Upper doctors in the townships (坐诊、查房、带教), and what grassroots doctors learn from their own cases."""
