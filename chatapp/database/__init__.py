"""The database: one unit of work, one transaction."""
