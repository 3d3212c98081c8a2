"""The host's side of the link: protocol and client, without any hardware description."""
