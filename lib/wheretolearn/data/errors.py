"""The one error that the data package raises about data."""


class DataError(Exception):
    """A data set is absent, damaged, or not what it claims to be.

    The message names the file, what was expected, what was found, and what to
    do about it.
    """


class AbsentError(DataError):
    """A data set is not at hand; the message says what to put where."""
