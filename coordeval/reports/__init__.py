"""Numbers to people: the terminal today, pages and machine formats to come."""
