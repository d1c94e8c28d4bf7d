"""The command `vjepa2`: one file a verb. Parse, call one function, print."""
