"""The cohort explorer: facets with counts over a whole lake, a table, and one query that is its state."""
