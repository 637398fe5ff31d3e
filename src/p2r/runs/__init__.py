"""What a run leaves on disk: one schema per file, written and read here."""
