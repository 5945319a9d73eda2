"""Teacher-forced diagnostics of coordinate distributions, the same for every objective."""
