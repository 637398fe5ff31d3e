"""The command `p2r`: `app` puts it together, a module per subcommand."""
