"""A small project whose tasks are run by workers of Celery, Huey, RQ and Django's own framework."""
