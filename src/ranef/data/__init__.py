"""Any table or file of rows as named columns."""
