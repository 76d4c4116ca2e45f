"""Management commands; `django_pooled_pg` must be in INSTALLED_APPS for Django to find them."""
