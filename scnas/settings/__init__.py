"""What a user may set: the schema, Hydra around it, settings files of strangers, folders of runs."""
