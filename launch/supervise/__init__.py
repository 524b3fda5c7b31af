"""What happens around a training attempt: starting its ranks, passing signals on, reading its end, deciding what is next."""
