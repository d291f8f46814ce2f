"""Errors whose text is written for the user.

Every other exception is a bug in Newt and keeps its traceback.
"""


class NewtError(Exception):
    """Something the user can fix: printed without a traceback, exit code 2.

    The message is one line (or one line per problem) that says what is wrong and what to do.
    """

    exit_code = 2


class DataError(NewtError):
    """A dataset or one of its rows cannot be used; the message names the dataset and the row."""


class CheckpointError(NewtError):
    """A checkpoint is damaged, incomplete or of another run."""


class UnsupportedError(NewtError):
    """Something that users of the field know, and Newt does not do yet."""

    exit_code = 3


def one_line(error: BaseException) -> str:
    """What an exception says, for a line of our own: without line breaks, at most 400 characters."""
    return " ".join(str(error).split())[:400] or type(error).__name__
