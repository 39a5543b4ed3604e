"""Every error that Manikin raises on purpose.

ManikinError                 anything below; exit status 1 at the command line unless stated
├── InputError        (3)    a file or frame cannot be read as what it claims to be
├── SchemaError       (3)    data and schema, or a schema and itself, disagree
├── ConditionError    (4)    a condition cannot be parsed, or no subject can satisfy it
├── NotSupported      (4)    the synthesizer, metric or format does not do what was asked
├── PrivacyError      (5)    the privacy budget or a disclosure rule forbids it
├── IntegrityError    (6)    a release or model file is not what its manifest says
├── OutputError       (7)    the result cannot be written (exists already, no room, no right)
├── MissingExtra      (8)    an optional dependency is not installed; prints the install line
└── Stopped           (130)  the person asked to stop; nothing was left half-written
    └── OutOfTime       (1)  the time budget was over before the fit was

An error has three parts: what was given, what is allowed, what to do. None of them ever quotes
a cell of the data: names of columns, counts and kinds are enough to act on.
"""

from __future__ import annotations

__all__ = [
    "ConditionError",
    "InputError",
    "IntegrityError",
    "ManikinError",
    "MissingExtra",
    "NotSupported",
    "OutOfTime",
    "OutputError",
    "PrivacyError",
    "SchemaError",
    "Stopped",
]

RESTRICTED = "restricted, not for release"  # a note on errors that may hang on rows under a budget


class ManikinError(Exception):
    """An error with a cure: `given` is what was found, `allowed` what would do, `todo` the way."""

    exit_status = 1

    def __init__(self, given: str, allowed: str = "", todo: str = "") -> None:
        self.given, self.allowed, self.todo = given, allowed, todo
        super().__init__("; ".join(part for part in (given, allowed, todo) if part))


class InputError(ManikinError):
    """A file or frame cannot be read as what it claims to be."""

    exit_status = 3


class SchemaError(ManikinError):
    """Data and schema, or a schema and itself, disagree."""

    exit_status = 3


class ConditionError(ManikinError):
    """A condition cannot be parsed, or no subject can satisfy it."""

    exit_status = 4


class NotSupported(ManikinError):
    """The synthesizer, metric or format does not do what was asked."""

    exit_status = 4


class PrivacyError(ManikinError):
    """The privacy budget or a disclosure rule forbids it."""

    exit_status = 5


class IntegrityError(ManikinError):
    """A release or a model file is not what its manifest says."""

    exit_status = 6


class OutputError(ManikinError):
    """The result cannot be written where it was asked for."""

    exit_status = 7


class MissingExtra(ManikinError):
    """An optional dependency is not installed."""

    exit_status = 8

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the optional dependency group '{extra}', which is not installed",
            "everything else works without it",
            f"install it with: pip install 'manikin[{extra}]'",
        )


class Stopped(ManikinError):
    """The person asked to stop; nothing was left half-written."""

    exit_status = 130

    def __init__(self, what: str = "the run") -> None:
        super().__init__(f"{what} was stopped on request", "", "nothing was left half-written")


class OutOfTime(Stopped):
    """The time budget was over before there was anything to release."""

    exit_status = 1

    def __init__(self, minutes: float, what: str) -> None:
        ManikinError.__init__(
            self,
            f"the time budget of {minutes:g} minutes was over during: {what}",
            "a budget in which at least the fit ends; nothing was left half-written",
            "give more --minutes, fewer rows, or a quicker synthesizer (manikin list)",
        )
