"""Errors of the registry."""


class ModelMissingError(LookupError):
    """A task has no champion, or a version does not exist."""


class TamperedModelError(RuntimeError):
    """A model's files are not those that were registered."""


class NotPassedError(RuntimeError):
    """A version has not passed the gate."""


class ChampionMovedError(RuntimeError):
    """The champion is no longer the version that the challenger was compared with."""
