"""What is asked of many series at once: cohorts, and what is made of them."""
