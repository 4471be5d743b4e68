"""One answer: its life cycle, its numbered events, its log in memory."""
