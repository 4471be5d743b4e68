"""What workers tell each other about answers."""
