"""What a model cannot be exported to, with the reason."""

from benchmark.options import ConfigError


class CannotExport(ConfigError):
    """A form that a model does not have; the message is the reason."""
