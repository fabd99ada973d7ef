"""Procedural products with known geometry, one module each; `catalogue` lists them."""
