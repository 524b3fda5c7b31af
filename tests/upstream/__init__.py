"""Upstream's own unit tests of the modules that we patch, run from a checkout of Megatron-LM: `make test-upstream`."""
