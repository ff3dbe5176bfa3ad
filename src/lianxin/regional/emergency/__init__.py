"""The chest-pain green channel."""
