"""Who owns an answer: owners, visitor cookies, tickets. No HTTP."""
