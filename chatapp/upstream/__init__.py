"""The model's server: the request, its bytes, its chunks, its errors."""
