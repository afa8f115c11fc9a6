"""Commands about models under damaged images."""
