"""Messages as a tree, in SQL, and the ledger of upstream calls."""
