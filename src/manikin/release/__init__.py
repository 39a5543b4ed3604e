"""What leaves the house: report, figures, page, cards, record and seal."""
