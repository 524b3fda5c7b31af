"""The typed errors of this room; the command line maps them to exit code 2."""


class PatchError(Exception):
    """A patch, a parametrisation or a schedule cannot do what was asked."""


class FingerprintError(PatchError):
    """An upstream symbol reads differently from every version that was tested."""


class AuditError(PatchError):
    """The live model or optimizer differs from the muP table."""
