"""The search: architectures become evaluations, generations follow each other, nas() is the one-call form."""
