"""The client of the admin interface."""
