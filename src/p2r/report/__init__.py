"""Runs as self-contained HTML pages, and single traces as text, HTML and files."""
