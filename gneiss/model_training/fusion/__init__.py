"""One score from whatever annotations a document has: how it is learnt (LASER), and what it is compared with."""
