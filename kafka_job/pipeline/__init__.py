"""Parts that scripts put together: source, batches, watermarks, windows, counts, report, rows, SQL."""
