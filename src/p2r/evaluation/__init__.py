"""What many traces say together: intervals and metrics."""
