"""Small networks to fool, trained here."""
