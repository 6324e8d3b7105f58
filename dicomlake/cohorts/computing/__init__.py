"""A function of every series: run, gathered, kept with what made it."""
