"""Interfaces of other packages over our metrics, for code that was written against them."""
