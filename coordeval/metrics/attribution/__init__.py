"""What each failure costs: oracle fixes on the emission order, scored again exactly."""
