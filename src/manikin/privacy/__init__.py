"""What privacy costs: the ledger of releases, the budget that buys noise, the small-cell rule."""
