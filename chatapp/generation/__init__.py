"""A question becomes a stream of deltas: hooks, history, tools, continuation."""
