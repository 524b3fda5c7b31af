"""A run on a SLURM cluster: the chain of jobs, their sbatch files, and what looks after them."""
