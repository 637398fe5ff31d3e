"""The command `p2r`: `app` lists the commands, and a module holds each."""
