"""From the exchanges' sockets to the raw topics."""
