"""From an answer's log to one client's socket."""
