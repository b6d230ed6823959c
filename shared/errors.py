"""Errors that are the user's to mend."""


class UserError(Exception):
    """Something the user can put right; the message is one sentence that says how.

    Scripts print it and end with exit code 2 (`shared.options.script`).
    """
