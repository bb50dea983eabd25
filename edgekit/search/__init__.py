"""Search: which of many ways to compress a model is best, told by making and measuring them."""
