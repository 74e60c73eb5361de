"""What a recipe says: its parts, its rules, what it says of duplicates."""
