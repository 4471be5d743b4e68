"""Where text may be cut: words, sentences, and the granularities made of them."""
