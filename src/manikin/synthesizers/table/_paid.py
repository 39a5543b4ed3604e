"""What a model that was fitted under a privacy budget keeps of its price, and says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manikin.data.schema import TableSchema
from manikin.errors import InputError
from manikin.privacy import ledger as ledgers
from manikin.privacy.ledger import Release

__all__ = ["Paid"]


@dataclass(frozen=True)
class Paid:
    """Every release that a model was made of, and what was found out beside it."""

    releases: tuple[Release, ...]
    subjects: float  # how many there were, as noisy counts have it: paid for with them
    most_rows: int  # of a subject, that counted

    def notes(self, schema: TableSchema) -> tuple[str, ...]:
        """Say what became of subjects who may have several rows, whether they have or not."""
        if not schema.holders("subject"):
            return ()
        if self.most_rows > 1:
            return (f"At most {self.most_rows} rows of each subject count, chosen at random.",)
        return (
            "One row of each subject counts, chosen at random, and each synthetic subject has one"
            " row. Where subjects have several rows, let more of them count: --set most_rows=3;"
            " noise grows with it.",
        )

    def values(self) -> dict[str, Any]:
        """Return the JSON values that it is rebuilt from."""
        ledger = ledgers.to_json(self.releases)
        return {"subjects": self.subjects, "most_rows": self.most_rows, "ledger": ledger}

    @staticmethod
    def restore(values: Mapping[str, Any]) -> Paid | None:
        """Rebuild it from a model's values; None where nothing was paid.

        Raises InputError for a ledger without the figures beside it.
        """
        if "ledger" not in values:
            return None
        releases = ledgers.from_json(values["ledger"])
        n, most = values.get("subjects"), values.get("most_rows")
        if not isinstance(n, float) or not 1 <= n < 2**53 or type(most) is not int or most < 1:
            raise InputError(
                "a private model without a number of subjects and of rows that counted",
                "both, more than nought",
                "use a model file that this method wrote",
            )
        return Paid(releases, n, most)
