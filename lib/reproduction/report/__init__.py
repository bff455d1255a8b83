"""From records to numbers, tables and figures."""
