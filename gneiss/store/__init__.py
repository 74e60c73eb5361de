"""The one place that knows where bytes lie: stores, and places in them."""
