"""The SQL homes: tables, migrations and queries."""
