"""Who may connect: key files, and the file ``allowed``."""
