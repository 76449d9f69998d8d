"""Where a broker writes what must survive it: back ends of one interface, and the thread that feeds them."""
