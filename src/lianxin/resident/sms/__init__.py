"""Text messages to residents: composed from templates, stored before sent, handed to whatever gateway is set."""
