"""Options, tables and the reporter that the commands share."""
