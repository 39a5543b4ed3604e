"""A sample of what was written, held against the models of `fhir.resources`.

Its R4B module is used: of the kinds written here, R4B (4.3.0) says the same as R4 (4.0.1).
https://hl7.org/fhir/R4B/diff.html. The sample is drawn anew at every line with equal chance
(Vitter, ACM TOMS 1985, algorithm R, by blocks), apart for each kind.
"""

from __future__ import annotations

import numpy as np

from manikin.data.randomness import generator
from manikin.errors import OutputError
from manikin.io.fhir.files import loads
from manikin.io.fhir.lines import Resources

__all__ = ["Sample", "faults_of"]

SIZE = 16  # of each kind


class Sample:
    """A few lines of each kind, every one as likely as another."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.blocks = seed, 0
        self.held: dict[str, list[tuple[float, str]]] = {}  # kind → (key, line), least keys

    def take(self, made: Resources) -> None:
        """Look at more lines of a kind."""
        keys = generator(self.seed, "fhir sample", self.blocks).random(len(made.lines))
        self.blocks += 1
        least = np.argsort(keys)[:SIZE]
        fresh = [(float(keys[i]), made.lines[int(i)]) for i in least]
        self.held[made.kind] = sorted(self.held.get(made.kind, []) + fresh)[:SIZE]

    def check(self) -> None:
        """Raise OutputError for a resource that is not as FHIR says; without the models, nothing.

        It names kinds and elements, and no value.
        """
        faults = [f"{kind}: {fault}" for kind, held in sorted(self.held.items())
                  for _, line in held for fault in faults_of(line)]  # fmt: skip
        if faults:
            raise OutputError(
                f"{len(faults)} faults in a sample of the resources"
                f" ({'; '.join(sorted(set(faults))[:3])})",
                "resources as FHIR R4 has them",
                "nothing was written; the names of codes or the texts hold what FHIR forbids",
            )


def faults_of(line: str) -> list[str]:
    """Return which elements of a resource are wrong; nothing where no model is installed."""
    try:
        from fhir.resources.R4B import get_fhir_model_class
        from pydantic import ValidationError
    except ImportError:
        return []
    resource = loads(line.encode())
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    except ValidationError as error:
        return [".".join(str(part) for part in fault["loc"]) for fault in error.errors()]
    return []
