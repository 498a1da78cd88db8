"""`auto`: how many workers, without knobs. `decision` puts together what the others have learned of one endpoint."""
