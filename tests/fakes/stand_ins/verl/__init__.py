"""Stands in for verl's commands: takes its command line, and leaves the files that verl and its workers leave."""
