"""The adviser: which generator suits this table, measured on it within the time given.

Called `adviser`, not `advise`: a submodule named as the public function `manikin.advise` would
take its place as soon as it is imported.
"""

from manikin.adviser.advice import Advice, advise, choose

__all__ = ["Advice", "advise", "choose"]
