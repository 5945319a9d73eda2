"""Which parameters learn, at which rate, and by which optimizer."""
