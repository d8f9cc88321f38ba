"""Where trainings run, what happens to one that breaks, and where all of them are kept."""
