"""PostGIS."""
