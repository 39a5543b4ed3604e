"""What the data are: datasets, schemas, tables, and how a table's schema is inferred."""
