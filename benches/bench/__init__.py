"""Measures wrapped programs beside native TCP, a stunnel pair and bare quinn."""
