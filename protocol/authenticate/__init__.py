"""Who is calling: the one place that turns a request into a principal."""
