"""A resident's pages on a phone: find and book, what happens next, one's own record, who looked."""
