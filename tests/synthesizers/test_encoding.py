"""Known answers for the shared encoder."""

import numpy as np

from manikin.data.schema import Column, TableSchema
from manikin.data.table import Table
from manikin.synthesizers.table.encoding import Encoding


def table(columns: list[Column], **values: np.ndarray) -> Table:
    n = len(next(iter(values.values())))
    return Table(TableSchema(tuple(columns)), np.arange(n), values)


def there_and_back(real: Table) -> Table:
    encoding = Encoding.fit(real, seed=1)
    return encoding.decode(encoding.encode(real, seed=1), real.subjects, seed=1)


def test_heaped_values_stay_on_the_grid_and_keep_their_shares() -> None:
    rng = np.random.default_rng(0)
    pressure = 10.0 * rng.integers(8, 20, 2000)
    pressure[:100] += rng.integers(1, 10, 100)
    real = table([Column("bp", "integer")], bp=pressure)
    back = there_and_back(real).columns["bp"]
    assert set(back) <= set(pressure)
    assert (back == 120).sum() == (pressure == 120).sum()
