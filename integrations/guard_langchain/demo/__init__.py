"""The demo: an accounts clerk with a mailbox, a ledger and a customer table, under guard."""
