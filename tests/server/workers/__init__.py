"""Several processes that serve one configuration."""
