"""What a table of series tells: described, drawn, followed in time, grouped by protocol."""
