"""The papers' tables, what it takes to reproduce them, and reports that set paper beside measured; no torch."""
