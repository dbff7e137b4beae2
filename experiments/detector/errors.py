"""The exception for scores that no detector can be fitted on."""

from runtime_matrix.experiments.config.errors import UserError


class DetectionError(UserError):
    """The reason, in one line, why a detector cannot be fitted or judged: labels of one class, too few responses."""
