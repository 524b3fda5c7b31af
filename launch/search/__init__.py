"""Studies: many small trainings that decide something for a large one (`windtunnel sweep`, `mix`, `scaling`)."""
