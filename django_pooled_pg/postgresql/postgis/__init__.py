"""PostGIS, under a name that has "postgresql" in it, too: packages look for it."""
