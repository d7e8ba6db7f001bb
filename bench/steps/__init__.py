"""The steps of a run that need torch. Each runs in its own worker, and is addressed by its inputs' hash."""
