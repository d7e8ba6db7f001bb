"""The words of the product: plain data that every other package speaks in."""
