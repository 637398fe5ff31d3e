"""Traces as pages: one HTML file that needs nothing else, and one trace for a notebook."""
