"""What is said where another set takes the place of the one that was asked for."""


def say_stand_in(wanted: str, given: str, about: str, reason: object) -> None:
    """Say on standard output that a run goes on with other data than was asked for.

    It is no warning: filters would hide one, and under -W error one would end the run.

    Args:
        wanted: the set that was asked for.
        given: name of what stands in for it, as it goes into every record.
        about: what that is, in a few words.
        reason: why the set cannot be had, one sentence or its error.
    """
    print(
        f"STAND-IN for {wanted}: {reason} GOING ON WITH {given}, {about}: every record of this run "
        f"names {given}, and its numbers are not comparable with those on {wanted}.",
        flush=True,
    )
