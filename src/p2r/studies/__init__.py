"""Studies: claims stated before the runs, the arms that test them, and what came of it."""
