"""What notebooks show: plots, widgets, live figures, parameters."""
