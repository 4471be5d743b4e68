"""The application's functions that the model may call."""
