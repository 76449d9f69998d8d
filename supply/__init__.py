"""What cbw is made of, and what is made of it: the audit of the locked dependencies, and the wheel and the source archive."""
