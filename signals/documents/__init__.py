"""Documents as they are read: text, addresses, pages, pictures, bid requests."""
