"""What may run: the types of a study file, and nothing that trains."""
