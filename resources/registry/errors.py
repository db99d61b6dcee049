"""Why the registry refuses."""


class ModelMissingError(LookupError):
    """A task has no champion, or a version does not exist."""


class TamperedModelError(RuntimeError):
    """A model's files are not those that were registered."""


class NotPassedError(RuntimeError):
    """A version has not passed the gate."""


class ChampionMovedError(RuntimeError):
    """The champion is no longer the one that a challenger was compared with."""
