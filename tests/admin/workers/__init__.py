"""The admin interface of a suite with workers."""
