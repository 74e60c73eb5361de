"""The command line: a file a group of commands; all printing is here."""
