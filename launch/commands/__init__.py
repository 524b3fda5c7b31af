"""One module a command; each imports only typer at its top, so that `windtunnel --help` is quick."""
