"""Pictures from tables; matplotlib is imported here and nowhere else."""
