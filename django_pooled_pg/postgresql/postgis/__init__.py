"""PostGIS, under a name that also contains "postgresql": packages look for that."""
