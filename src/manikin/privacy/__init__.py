"""What privacy costs: the ledger of releases and the budget that buys noise."""
