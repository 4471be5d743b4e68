"""What one worker does with answers: start, find, stop, take over, drain."""
