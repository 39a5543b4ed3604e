"""The auditor: is the data ready? What is missing, rare, identifying, duplicated or leaking?

Called `auditor`, not `audit`: a submodule named as the public function `manikin.audit` would take
its place as soon as it is imported.
"""

from manikin.auditor.findings import Audit, ColumnProfile, Finding
from manikin.auditor.inspection import audit

__all__ = ["Audit", "ColumnProfile", "Finding", "audit"]
