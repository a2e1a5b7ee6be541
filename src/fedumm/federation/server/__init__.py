"""The server side: it asks, screens, selects, aggregates and saves; it knows no network, no model and no data."""
